"""What notebooks 01 and 02 compute: hypergradients and hypernetworks where the answer is known. Tables out."""

from hdarts.toy_experiments.accuracy import (
    METHODS,
    OPERATIONS,
    CrossEntropy,
    by_steps,
    curvatures,
    descend,
    memory,
    over_epsilon,
    over_step_size,
    over_the_simplex,
    start,
)
from hdarts.toy_experiments.joint import Generated, Own, Retrained, all_ways, run_jointly
from hdarts.toy_experiments.local import (
    along_a_line,
    bias_over_sigma,
    converged,
    figure_22,
    learned_over_sigma,
    shrinkage,
)

__all__ = [
    "METHODS",
    "OPERATIONS",
    "CrossEntropy",
    "Generated",
    "Own",
    "Retrained",
    "all_ways",
    "along_a_line",
    "bias_over_sigma",
    "by_steps",
    "converged",
    "curvatures",
    "descend",
    "figure_22",
    "learned_over_sigma",
    "memory",
    "over_epsilon",
    "over_step_size",
    "over_the_simplex",
    "run_jointly",
    "shrinkage",
    "start",
]
