"""What notebooks 01 and 02 compute on problems whose answer is known: tensors and tables, no figures.

`errors`: every method against the exact hypergradient. `training`: what a hypernetwork learns of the best response.
`joint`: alpha and weights trained together, with own and with generated weights.
"""

from hdarts.toy_experiments.errors import (
    METHODS,
    ClassifyingMicroDARTS,
    by_effort,
    cost_of,
    curvatures,
    descend,
    difference,
    finite_difference_errors,
    parts_at,
    responses_by_curvature,
    simplex,
    some_alpha,
)
from hdarts.toy_experiments.joint import GeneratedWeights, OwnWeights, RetrainedWeights, Settings, joint, judged
from hdarts.toy_experiments.training import Fed, draws, fit, jacobian, losses_over_alpha, still

__all__ = [
    "METHODS",
    "ClassifyingMicroDARTS",
    "Fed",
    "GeneratedWeights",
    "OwnWeights",
    "RetrainedWeights",
    "Settings",
    "by_effort",
    "cost_of",
    "curvatures",
    "descend",
    "difference",
    "draws",
    "finite_difference_errors",
    "fit",
    "jacobian",
    "joint",
    "judged",
    "losses_over_alpha",
    "parts_at",
    "responses_by_curvature",
    "simplex",
    "some_alpha",
    "still",
]
