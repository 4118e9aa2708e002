"""A peer of the rl benchmark: TD(0) in numpy, one learner of 8 f32 features, one update after another.

    rl_numpy.py [--updates 100000] [--repetitions 3]

Processor time of the thread. Prints one JSON object: `numpy_td0_per_s`, the best of the repetitions.
"""

import argparse
import json
import time

import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--updates", type=int, default=100_000)
parser.add_argument("--repetitions", type=int, default=3)
arguments = parser.parse_args()

rng = np.random.default_rng(1)
states = rng.standard_normal((1025, 8)).astype(np.float32)
rewards = rng.standard_normal(1024).astype(np.float32)
gamma, alpha = np.float32(0.95), np.float32(0.01)

best = 0.0
for _ in range(arguments.repetitions):
    weights = np.zeros(8, np.float32)
    start = time.thread_time()
    for update in range(arguments.updates):
        at = update & 1023
        state = states[at]
        delta = rewards[at] + gamma * (weights @ states[at + 1]) - weights @ state
        weights += (alpha * delta) * state
    best = max(best, arguments.updates / (time.thread_time() - start))
    assert np.isfinite(weights).all()
print(json.dumps({"numpy_td0_per_s": best}))
