"""What the BBOB peers share: problems from standard input, targets reached to standard output."""

import sys

import cocoex

TARGETS = [10 ** (2 - 0.2 * k) for k in range(51)]


class Done(Exception):
    """The budget is spent or every target is reached."""


class Counted:
    """A problem that counts its evaluations and remembers when each target was reached."""

    def __init__(self, problem, fopt, budget):
        self.problem, self.fopt, self.budget = problem, fopt, budget
        self.evaluations, self.hits = 0, []

    def __call__(self, x):
        if self.evaluations >= self.budget or len(self.hits) == len(TARGETS):
            raise Done
        value = self.problem(x)
        self.evaluations += 1
        while len(self.hits) < len(TARGETS) and value - self.fopt <= TARGETS[len(self.hits)]:
            self.hits.append(self.evaluations)
        return value


def main(run, budget_per_dimension):
    """Calls `run(objective, dimension, budget, seed)` for each line of input."""
    wanted = [line.split() for line in sys.stdin if line.strip()]
    for function, instance, dimension, fopt in wanted:
        function, instance, dimension = int(function), int(instance), int(dimension)
        suite = cocoex.Suite("bbob", f"instances: {instance}", f"dimensions: {dimension} function_indices: {function}")
        problem = suite.get_problem_by_function_dimension_instance(function, dimension, instance)
        budget = budget_per_dimension * dimension
        objective = Counted(problem, float(fopt), budget)
        try:
            run(objective, dimension, budget, 100 * function + instance)
        except Done:
            pass
        print(function, instance, dimension, *objective.hits, flush=True)
