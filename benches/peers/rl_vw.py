"""A peer of the rl benchmark: Vowpal Wabbit, linear regression by stochastic gradient descent on 8 dense features.

    rl_vw.py [--examples 100000] [--passes 11] [--repetitions 2]

Vowpal Wabbit has no TD; the closest is its learning from examples that are given, without the value of a next state. It hashes and
parses sparse features. Prints one JSON object:

- `vw_cached_per_s`: its own C++ loop over its binary cache, examples a second beyond the first pass, which parses
- `vw_learn_per_s`: `learn()` of examples parsed before, from Python
"""

import argparse
import json
import os
import tempfile
import time

import numpy as np
import vowpalwabbit

parser = argparse.ArgumentParser()
parser.add_argument("--examples", type=int, default=100_000)
parser.add_argument("--passes", type=int, default=11)
parser.add_argument("--repetitions", type=int, default=2)
arguments = parser.parse_args()

SGD = "--quiet --sgd --power_t 0 --learning_rate 0.01"
rng = np.random.default_rng(1)
states = rng.standard_normal((arguments.examples, 8)).astype(np.float32)
targets = states @ rng.standard_normal(8)
lines = [
    f"{target:.5f} | " + " ".join(f"{i + 1}:{x:.5f}" for i, x in enumerate(state))
    for target, state in zip(targets, states)
]


def seconds(options):
    start = time.perf_counter()
    workspace = vowpalwabbit.Workspace(f"{SGD} {options}")
    workspace.finish()
    return time.perf_counter() - start


with tempfile.TemporaryDirectory() as folder:
    data = os.path.join(folder, "data.txt")
    with open(data, "w") as file:
        file.write("\n".join(lines) + "\n")
    cached = 0.0
    for repetition in range(arguments.repetitions):
        cache = os.path.join(folder, f"cache{repetition}")
        common = f"-d {data} --cache_file {cache} --holdout_off"
        one = seconds(f"{common} -k --passes 1")
        many = seconds(f"{common} -k --passes {arguments.passes}")
        cached = max(cached, arguments.examples * (arguments.passes - 1) / (many - one))

workspace = vowpalwabbit.Workspace(SGD)
examples = [workspace.parse(line) for line in lines[:20_000]]
examples = [example[0] if isinstance(example, list) else example for example in examples]
learned = 0.0
for _ in range(arguments.repetitions):
    start = time.perf_counter()
    for example in examples:
        workspace.learn(example)
    learned = max(learned, len(examples) / (time.perf_counter() - start))
for example in examples:
    workspace.finish_example(example)
workspace.finish()
print(json.dumps({"vw_cached_per_s": cached, "vw_learn_per_s": learned}))
