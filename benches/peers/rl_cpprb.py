"""A peer of the rl benchmark: cpprb's prioritised replay buffer, in C++ behind Python, with 2^20 slots of 8 f32 features.

    rl_cpprb.py [--slots 1048576] [--calls 1000]

Processor time of the thread. Prints one JSON object, each number in steps a second, the best of calls with different sizes of batch:

- `cpprb_add_per_s`: steps with given priorities, added in batches of 4,096
- `cpprb_sample_per_s`: steps drawn with their weights and copied out, in batches of 32 and 256
- `cpprb_update_per_s`: priorities set again, in batches of 32 and 256
"""

import argparse
import json
import time

import numpy as np
from cpprb import PrioritizedReplayBuffer

parser = argparse.ArgumentParser()
parser.add_argument("--slots", type=int, default=1 << 20)
parser.add_argument("--calls", type=int, default=1000)
arguments = parser.parse_args()

rng = np.random.default_rng(1)
fields = {"obs": {"shape": (8,)}, "act": {}, "rew": {}, "next_obs": {"shape": (8,)}, "done": {}}
buffer = PrioritizedReplayBuffer(arguments.slots, fields, alpha=0.6)

SIZE = 4096
states = rng.standard_normal((SIZE, 8)).astype(np.float32)
zeros = np.zeros(SIZE, np.float32)
priorities = rng.random(SIZE)
start = time.thread_time()
for _ in range(arguments.slots // SIZE):
    buffer.add(obs=states, act=zeros, rew=zeros, next_obs=states, done=zeros, priorities=priorities)
added = arguments.slots / (time.thread_time() - start)

sampled = updated = 0.0
for size in (32, 256):
    start = time.thread_time()
    for _ in range(arguments.calls):
        batch = buffer.sample(size, beta=0.4)
    sampled = max(sampled, arguments.calls * size / (time.thread_time() - start))
    batches = [buffer.sample(size, beta=0.4)["indexes"] for _ in range(arguments.calls // 10)]
    priorities = rng.random(size)
    start = time.thread_time()
    for call in range(arguments.calls):
        buffer.update_priorities(batches[call % len(batches)], priorities)
    updated = max(updated, arguments.calls * size / (time.thread_time() - start))
print(json.dumps({"cpprb_add_per_s": added, "cpprb_sample_per_s": sampled, "cpprb_update_per_s": updated}))
