"""The peer of the sphere benchmark: PyTorch sums the gradients of two processes on this machine, over gloo, on the CPU.

    ddp_gloo.py [--elements 1000000,10000000] [--methods all_reduce,ddp,ddp_view] [--bucket-mb 25] [--tensors 16]
                [--processes 2] [--repetitions 20]

Runs every method with every number of elements and every size of bucket in fresh processes of one thread each, and prints one JSON
object a line:

- `method`, `elements`, `bucket_mb`, `tensors`, `processes`, `repetitions`: as asked for
- `wall_s`, `wall_min_s`: median and least time from a barrier until the slowest process has the result
- `cpu_s`: median processor time of one repetition, of all processes together
- `local_wall_s`, `local_cpu_s`: the same backward pass without synchronisation (`no_sync`); 0 for `all_reduce`, which has none
- `peak_mib`, `held_mib`: by how much the largest process grew beyond the gradients (and the parameters) that it was given, at its
  peak and after the last repetition. DDP's peak is in its first steps, where it puts new buckets in place of the first ones.

Methods: `all_reduce` is `torch.distributed.all_reduce` of one flat buffer, in buckets that are under way together; `ddp` is
`DistributedDataParallel` around a module whose backward pass only hands over given gradients, `ddp_view` the same with
`gradient_as_bucket_view`. Each process gives other small integers, whose sum (of DDP: mean) is checked.

The processes meet in a temporary file and speak over the loopback interface.
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

# Set before the libraries read them.
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

METHODS = ("all_reduce", "ddp", "ddp_view")
WARM_UP = 3  # DDP finds its buckets in the first steps.


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def several(kind):
        return lambda text: [kind(part) for part in text.split(",")]

    parser.add_argument("--elements", type=several(int), default=[1_000_000, 10_000_000])
    parser.add_argument("--methods", type=several(str), default=list(METHODS))
    parser.add_argument("--bucket-mb", type=several(float), default=[25.0], help="MiB of a bucket; DDP's own default is 25")
    parser.add_argument("--tensors", type=int, default=16, help="parts into which the parameters are divided")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--meeting-place", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.methods) - set(METHODS):
        parser.error(f"unknown method {', '.join(sorted(unknown))}; there are {', '.join(METHODS)}")
    if min([*options.elements, *options.bucket_mb, options.tensors, options.processes, options.repetitions]) <= 0:
        parser.error("every number must be above 0")
    if options.tensors > min(options.elements):
        parser.error("there are more tensors than elements")
    return options


def status_mib(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(field + ":"))


def growth_since(before):
    return status_mib("VmHWM") - before, status_mib("VmRSS") - before


def bounds(elements, parts):
    return list(itertools.pairwise(elements * part // parts for part in range(parts + 1)))


def work(options):
    """One process, of one method, size and bucket; prints what all measured if it is the first."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{options.meeting_place}", rank=options.rank, world_size=options.processes
    )
    [method], [elements], [bucket_mb] = options.methods, options.elements, options.bucket_mb
    # Integers so small that sums are exact in any order; made in place, for the sake of the peak.
    ones = torch.arange(1.0, 8.0).repeat(-(-elements // 7))[:elements]
    given = ones.clone().mul_(options.rank + 1)
    if method == "all_reduce":
        times, local, growth, found = all_reduce(options, given, bucket_mb)
        share = 1
    else:
        times, local, growth, found = ddp(options, given, bucket_mb, method == "ddp_view")
        share = options.processes
    expected = ones.mul_(options.processes * (options.processes + 1) / 2 / share)
    # DDP divides before it sums, which is exact for powers of two only.
    if not torch.allclose(found, expected, rtol=1e-6, atol=0):
        raise SystemExit(f"process {options.rank}: {method} of {elements} gave a wrong result")

    everyone = [None] * options.processes
    dist.all_gather_object(everyone, (times, local, growth))
    if options.rank == 0:
        wall, cpu = over_processes([one[0] for one in everyone])
        local_wall, local_cpu = over_processes([one[1] for one in everyone])
        result = {
            "method": method,
            "elements": elements,
            "bucket_mb": bucket_mb,
            "tensors": options.tensors,
            "processes": options.processes,
            "repetitions": options.repetitions,
            "wall_s": statistics.median(wall),
            "wall_min_s": min(wall),
            "cpu_s": statistics.median(cpu),
            "local_wall_s": statistics.median(local_wall),
            "local_cpu_s": statistics.median(local_cpu),
            "peak_mib": max(one[2][0] for one in everyone),
            "held_mib": max(one[2][1] for one in everyone),
        }
        print(json.dumps(result), flush=True)
    # Without taking the group down: gloo's threads now and then outlive it and end the process by `terminate`.
    dist.barrier()
    os._exit(0)


def over_processes(times):
    """Of each repetition the time of the slowest process, and the processor time of all."""
    repetitions = list(zip(*times))
    return [max(wall for wall, _ in each) for each in repetitions], [sum(cpu for _, cpu in each) for each in repetitions]


def timed(options, prepare, run):
    """Wall and processor time of every repetition after the warm-up."""
    import torch.distributed as dist

    times = []
    for _ in range(WARM_UP + options.repetitions):
        prepare()
        dist.barrier()
        cpu, wall = time.process_time(), time.perf_counter()
        run()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return times[WARM_UP:]


def all_reduce(options, given, bucket_mb):
    import torch
    import torch.distributed as dist

    dist.all_reduce(torch.zeros(1))
    buffer = given.clone()
    buckets = buffer.split(max(1, int(bucket_mb * 2**20 / 4)))
    before = status_mib("VmRSS")

    def run():
        for handle in [dist.all_reduce(bucket, async_op=True) for bucket in buckets]:
            handle.wait()

    times = timed(options, lambda: buffer.copy_(given), run)
    return times, [(0.0, 0.0)], growth_since(before), buffer


def ddp(options, given, bucket_mb, view):
    import torch
    from torch.nn.parallel import DistributedDataParallel

    class HandOver(torch.autograd.Function):
        @staticmethod
        def forward(ctx, parameter, gradient):
            ctx.gradient = gradient
            return parameter.new_zeros(())

        @staticmethod
        def backward(ctx, _):
            return ctx.gradient, None

    class Given(torch.nn.Module):
        def __init__(self, given):
            super().__init__()
            self.gradients = [given[start:end] for start, end in bounds(given.numel(), options.tensors)]
            # Ones, since zeros take no memory until they are read.
            self.parameters_ = torch.nn.ParameterList(torch.ones_like(gradient) for gradient in self.gradients)

        def forward(self):
            return sum(HandOver.apply(*pair) for pair in zip(self.parameters_, self.gradients))

    # A small one first, so that what the library loads on first use is not taken for the cost of the large one.
    DistributedDataParallel(Given(torch.zeros(options.tensors)))().backward()
    module = Given(given)
    before = status_mib("VmRSS")
    model = DistributedDataParallel(module, bucket_cap_mb=bucket_mb, gradient_as_bucket_view=view)
    loss = None

    def forward(context):
        nonlocal loss
        # Views of buckets stay, so that gradients are added where they are sent from.
        model.zero_grad(set_to_none=not view)
        with context():
            loss = model()

    times = timed(options, lambda: forward(contextlib.nullcontext), lambda: loss.backward())
    growth = growth_since(before)
    found = torch.cat([parameter.grad for parameter in module.parameters_])
    local = timed(options, lambda: forward(model.no_sync), lambda: loss.backward())
    return times, local, growth, found


def main():
    options = arguments()
    if options.rank is not None:
        work(options)
        return 0
    for elements, method, bucket in itertools.product(options.elements, options.methods, options.bucket_mb):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--elements", str(elements), "--methods", method, "--bucket-mb", str(bucket)]
            command += ["--tensors", str(options.tensors), "--processes", str(options.processes)]
            command += ["--repetitions", str(options.repetitions), "--meeting-place", os.path.join(folder, "meeting")]
            processes = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(options.processes)]
            codes = [process.wait() for process in processes]
            if any(codes):
                print(f"{method} of {elements} failed, exit codes {codes}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
