"""pycma's BIPOP-CMA-ES on BBOB: reads problems, writes the evaluations at which each target was first reached.

A line of input is `function instance dimension fopt`; a line of output is `function instance dimension` and then the number of
evaluations for each target reached, from 10^2 down in steps of 10^-0.2. Used by `cargo xtask bench bbob --peers VENV`.
"""

import sys
import warnings

import cma
import numpy as np

import bbob_targets

warnings.filterwarnings("ignore")


def run(objective, dimension, budget, seed):
    rng = np.random.RandomState(seed)
    options = {"verbose": -9, "verb_log": 0, "maxfevals": budget, "seed": seed + 1}
    cma.fmin2(objective, lambda: rng.uniform(-4, 4, dimension), 2, options, restarts=9, bipop=True)


if __name__ == "__main__":
    bbob_targets.main(run, int(sys.argv[1]))
