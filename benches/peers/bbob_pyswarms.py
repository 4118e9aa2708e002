"""pyswarms' global-best swarm on BBOB; input and output as in bbob_pycma.py. Used by `cargo xtask bench bbob --peers VENV`."""

import logging
import sys

import numpy as np
import pyswarms

import bbob_targets

PARTICLES = 40

# Clerc and Kennedy's constriction, as pyswarms' own examples have no settings that converge.
OPTIONS = {"c1": 1.49618, "c2": 1.49618, "w": 0.7298}


def run(objective, dimension, budget, seed):
    np.random.seed(seed)
    bounds = (np.full(dimension, -5.0), np.full(dimension, 5.0))
    swarm = pyswarms.single.GlobalBestPSO(PARTICLES, dimension, OPTIONS, bounds=bounds)
    swarm.optimize(lambda rows: np.array([objective(x) for x in rows]), budget // PARTICLES, verbose=False)


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    bbob_targets.main(run, int(sys.argv[1]))
