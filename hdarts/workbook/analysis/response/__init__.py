"""Notebook 09: what it costs to learn a response, and what it costs to solve for its one product that is needed.

`toy`: quadratics with a known spectrum, with predictions; `learners`: hypernetworks; `methods`: learners and solvers
at a cost in gradient evaluations; `frozen`: a supernet held at a checkpoint; `moving`: a search, beside whose steps
responses are learned.
"""

from hdarts.workbook.analysis.response.frozen import SUPERNETS, frozen_supernet, on_a_frozen_supernet, over_some_alphas
from hdarts.workbook.analysis.response.learners import families
from hdarts.workbook.analysis.response.moving import beside_a_search, mean_agreement
from hdarts.workbook.analysis.response.toy import (
    KnownSpectrum,
    in_place_of_inverse,
    over_cost,
    over_n_alpha,
    tangent_curve,
)

__all__ = [
    "SUPERNETS",
    "KnownSpectrum",
    "beside_a_search",
    "families",
    "frozen_supernet",
    "in_place_of_inverse",
    "mean_agreement",
    "on_a_frozen_supernet",
    "over_cost",
    "over_n_alpha",
    "over_some_alphas",
    "tangent_curve",
]
