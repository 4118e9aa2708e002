#!/usr/bin/env python3
"""Does the cost model of sphere-hierarchy foresee what SimGrid simulates?

    check_cost_model.py [--tolerance T] [--long] [--markdown FILE] [--svg FILE]

Compiles tools/smpi/reduce.c for SMPI, SimGrid's MPI, and simulates a cluster without congestion inside its switch: 3.1 GB/s and
15 us for every host's cable, in each direction. First it times messages between two hosts; the model is fitted to these alone
(`krystal sphere calibrate --samples`). Then it simulates reductions on 12 and on 144 hosts and compares their times
with what the model says. Exits 1 where whole-buffer tree or exclusive segments of 1e6 or 1e7 numbers are off by more than the
tolerance; everything else is printed for information.

All-to-all and all-gather go around in a ring, one message after another, as the model has it. With --long, and on 12 hosts always,
they are also left to SMPI, which posts all messages at once (minutes on 144 hosts): `segments_at_once`. Additions are injected, 15 GB/s of
addends, not measured. --markdown puts the table between the marks of a page, --svg draws the curve with the simulated points.

Needs SimGrid's smpicc and smpirun (Debian: libsimgrid-dev); prints `skipped` where they are missing.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CABLE_BYTES_PER_S, CABLE_LATENCY_S, ADD_BYTES_PER_S = 3.1e9, 15e-6, 15e9
HOSTS = (12, 144)
PARAMETERS = (100_000, 1_000_000, 10_000_000)
JUDGED = {(method, parameters) for method in ("tree", "segments") for parameters in PARAMETERS[1:]}
METHODS = ("tree", "segments", "segments_doubling", "recursive_segments", "ring", "recursive_doubling")
# Two for each power of two, so that every protocol of the simulated library is met, from 8 bytes to 64 MiB.
MESSAGES = [round(2 ** (half / 2)) for half in range(2, 49)]
SUMMED = [2**power for power in range(16, 25)]
ONE_AFTER_ANOTHER = ["--cfg=smpi/alltoallv:ring", "--cfg=smpi/allgatherv:ring"]
CURVE = sorted({1, *HOSTS, 1728, *(round(1728 ** (step / 60)) for step in range(61))})
CURVE_PARAMETERS = PARAMETERS[-1]


def platform(hosts):
    return f"""<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="machines" prefix="machine-" suffix="" radical="0-{hosts - 1}" speed="1Gf"
           bw="{CABLE_BYTES_PER_S}Bps" lat="{CABLE_LATENCY_S}s" sharing_policy="SPLITDUPLEX"/>
</platform>
"""


class Simulator:
    def __init__(self, folder):
        self.folder = folder
        self.program = folder / "reduce"
        subprocess.run(
            ["smpicc", "-std=gnu11", "-O2", str(ROOT / "tools/smpi/reduce.c"), "-o", str(self.program)], check=True
        )

    def run(self, hosts, methods, elements, options=()):
        file = self.folder / f"{hosts}.xml"
        file.write_text(platform(hosts))
        command = ["smpirun", "-np", str(hosts), "-platform", str(file), "--cfg=smpi/simulate-computation:no"]
        command += [*options, "--log=root.thres:error", str(self.program), str(ADD_BYTES_PER_S), ",".join(methods)]
        command += map(str, elements)
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=self.folder).stdout
        return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def forecasts(samples):
    """What the model fitted to these samples says, by method, machines and parameters; and the fit."""
    command = ["cargo", "run", "--quiet", "-p", "krystal-cli", "--", "sphere", "calibrate", "--samples", str(samples), "--json"]
    command += ["--machines", ",".join(map(str, CURVE)), "--parameters", ",".join(map(str, PARAMETERS))]
    output = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout)
    seconds = {
        (prediction["algorithm"], prediction["machines"], forecast["parameters"]): prediction["seconds"]
        for forecast in output["forecasts"]
        for prediction in forecast["predictions"]
    }
    return output["fit"], seconds


def table(simulated, predicted, tolerance):
    """Lines of a Markdown table, and what is outside the tolerance."""
    rows = [("machines", "f32", "method", "simulated, ms", "model, ms", "difference", "judged")]
    wrong = []
    for (method, hosts, parameters), seconds in simulated.items():
        model = predicted.get((method, hosts, parameters))
        difference = None if model is None else model / seconds - 1
        judged = (method, parameters) in JUDGED
        if judged and abs(difference) > tolerance:
            wrong.append(f"{method} of {parameters} on {hosts} machines: {difference:+.1%}")
        rows.append((
            str(hosts), f"{parameters:.0e}".replace("e+0", "e"), method, f"{seconds * 1e3:.3f}",
            "" if model is None else f"{model * 1e3:.3f}", "" if model is None else f"{difference:+.1%}", "yes" if judged else "",
        ))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return lines, wrong


def description(fit, samples):
    def speed(seconds_per_byte):
        return f"{1e-9 / seconds_per_byte:.2f} GB/s" if seconds_per_byte else "no time for bytes"

    errors = f"{fit['rms_relative_error']:.1%} (root mean square), {fit['worst_relative_error']:.1%} at worst"
    return [
        f"Fitted to {samples} samples of two hosts, which it misses by {errors}:",
        "",
        *(
            f"- messages from {link['from_bytes']:,} bytes on: {link['latency_s'] * 1e6:.1f} us and {speed(link['seconds_per_byte'])}"
            for link in fit["model"]["links"]
        ),
        f"- additions: {speed(fit['model']['add_seconds_per_byte'])}",
    ]


def between_marks(page, lines):
    begin, end = "<!-- recorded: begin -->", "<!-- recorded: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    page.write_text(pattern.sub(lambda _: "\n".join([begin, "", *lines, "", end]), page.read_text()))


def svg(simulated, predicted):
    """Seconds against machines, both logarithmic."""
    width, height, left, right, top, bottom = 760, 440, 62, 196, 56, 46
    x_range, y_range = (1, 2000), (0.008, 3)

    def x(machines):
        return left + (width - left - right) * math.log(machines / x_range[0]) / math.log(x_range[1] / x_range[0])

    def y(seconds):
        return height - bottom - (height - top - bottom) * math.log(seconds / y_range[0]) / math.log(y_range[1] / y_range[0])

    curves = [
        ("tree", "whole-buffer tree", "tree", 0),
        ("segments", "exclusive segments, ring", "segments", 0),
        ("recursive_segments", "segments, groups of 12", "groups", -4),
        ("segments_at_once", "segments, all at once", "once", 10),
    ]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">',
        '<title id="title">Predicted seconds to add up a gradient of ten million f32, by the number of machines</title>',
        "<style>",
        "text { font: 12px system-ui, sans-serif; fill: #333 } .name { font-size: 14px; font-weight: 600 }",
        ".grid { stroke: #8884; stroke-width: 1 } .curve { fill: none; stroke-width: 2; stroke: var(--c) }",
        ".dot { fill: var(--c) } .label { fill: var(--c); font-weight: 600 }",
        ".tree { --c: #b8461b } .segments { --c: #1f6fc4 } .groups { --c: #2b8457 } .once { --c: #7a5bb5; stroke-dasharray: 5 4 }",
        "@media (prefers-color-scheme: dark) { text { fill: #ccc } .tree { --c: #f08a5d } .segments { --c: #6db1f5 }",
        ".groups { --c: #63c795 } .once { --c: #b79df0 } }",
        "</style>",
        f'<text class="name" x="{left}" y="20">A model, not a measurement: seconds to add up 10,000,000 f32</text>',
        f'<text x="{left}" y="38">lines: the model fitted to messages of two simulated hosts; dots: simulated by SimGrid</text>',
    ]
    for seconds in (0.01, 0.03, 0.1, 0.3, 1, 3):
        out.append(f'<path class="grid" d="M{left} {y(seconds):.1f}H{width - right}"/>')
        out.append(f'<text x="{left - 8}" y="{y(seconds) + 4:.1f}" text-anchor="end">{seconds:g} s</text>')
    for machines in (1, 2, 4, 12, 36, 144, 432, 1728):
        out.append(f'<path class="grid" d="M{x(machines):.1f} {top}V{height - bottom}"/>')
        out.append(f'<text x="{x(machines):.1f}" y="{height - bottom + 17}" text-anchor="middle">{machines:,}</text>')
    out.append(f'<text x="{(left + width - right) / 2:.1f}" y="{height - 8}" text-anchor="middle">machines</text>')
    for method, label, style, shift in curves:
        points = [(machines, predicted[method, machines, CURVE_PARAMETERS]) for machines in CURVE if machines > 1]
        path = "L".join(f"{x(machines):.1f} {y(seconds):.1f}" for machines, seconds in points)
        out.append(f'<path class="curve {style}" d="M{path}"/>')
        out.append(
            f'<text class="label {style}" x="{width - right + 6}" y="{y(points[-1][1]) + 4 + shift:.1f}">{label}</text>'
        )
        for hosts in HOSTS:
            if (method, hosts, CURVE_PARAMETERS) in simulated:
                seconds = simulated[method, hosts, CURVE_PARAMETERS]
                out.append(f'<circle class="dot {style}" cx="{x(hosts):.1f}" cy="{y(seconds):.1f}" r="4.5"/>')
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tolerance", type=float, default=0.25, help="share of the simulated time (default 0.25)")
    parser.add_argument("--long", action="store_true", help="all messages at once on 144 hosts too: minutes")
    parser.add_argument("--markdown", type=Path, help="page whose recorded part the table becomes")
    parser.add_argument("--svg", type=Path, help="file for the curve")
    arguments = parser.parse_args()
    if missing := [program for program in ("smpicc", "smpirun", "cargo") if not shutil.which(program)]:
        print(f"skipped: {' and '.join(missing)} not here (smpicc and smpirun come with SimGrid, Debian: libsimgrid-dev)")
        return 0

    with tempfile.TemporaryDirectory() as folder:
        simulator = Simulator(Path(folder))
        samples = simulator.run(2, ["send_receive"], MESSAGES) + simulator.run(2, ["add"], SUMMED)
        file = Path(folder) / "samples.jsonl"
        file.write_text("\n".join(map(json.dumps, samples)))
        fit, predicted = forecasts(file)
        simulated = {}
        for hosts in HOSTS:
            runs = simulator.run(hosts, [*METHODS, "allreduce"], PARAMETERS, ONE_AFTER_ANOTHER)
            if arguments.long or hosts < 100:
                at_once = simulator.run(hosts, ["segments"], PARAMETERS)
                runs += [run | {"kind": "segments_at_once"} for run in at_once]
            for run in runs:
                simulated[run["kind"], hosts, run["bytes"] // 4] = run["seconds"]

    lines, wrong = table(simulated, predicted, arguments.tolerance)
    lines = [*description(fit, len(samples)), "", *lines]
    print("\n".join(lines))
    if arguments.markdown:
        between_marks(arguments.markdown, lines)
    if arguments.svg:
        arguments.svg.write_text(svg(simulated, predicted))
    for line in wrong:
        print(f"DIFFERENT: {line}")
    print(f"{'DIFFERENT' if wrong else 'ok'}: {len(JUDGED) * len(HOSTS)} times judged, tolerance {arguments.tolerance:.0%}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
