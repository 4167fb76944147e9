"""Notebook 09: what it costs to learn a response, and what it costs to solve for its one product that is needed.

`toy`: quadratics with a known spectrum, with predictions; `methods`: learners and solvers at a cost in gradient
evaluations; `frozen`: a supernet held at a checkpoint; `moving`: a search, beside whose steps responses are learned.
"""

from hdarts.workbook.analysis.response.frozen import frozen_supernet, on_a_frozen_supernet
from hdarts.workbook.analysis.response.moving import beside_a_search, mean_agreement
from hdarts.workbook.analysis.response.toy import KnownSpectrum, over_cost, over_n_alpha, tangent_curve

__all__ = [
    "KnownSpectrum",
    "beside_a_search",
    "frozen_supernet",
    "mean_agreement",
    "on_a_frozen_supernet",
    "over_cost",
    "over_n_alpha",
    "tangent_curve",
]
