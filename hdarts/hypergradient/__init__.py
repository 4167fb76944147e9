"""One function a method: each estimates d outer/d alpha of a `BilevelProblem` and returns its direct and response part.

With v = d outer/dw, H = d2 inner/dw2 and C = d2 inner/dw d alpha (rows: weights), the truth at w*(alpha) is

    d outer/d alpha (direct, at fixed w)  -  C^T H^-1 v (response),

and the methods differ in what they put in place of H^-1 v, and in the weights at which the derivatives are taken. H
is never built, except in `exact`, and at most one graph is alive at a time.

For every function: `w` holds the weights (a flat vector as a rule), `alpha` has any shape; arguments are not changed
and results are detached; what a loss does not use has gradient 0. Errors: ValueError for an impossible argument,
FloatingPointError where a loss or a derivative is nan or infinite, each naming the value. `info` is explained in
`bilevel.Hypergradient`. Sources: report, sections 4.4.1 and 4.4.2; Liu et al. 2019 (DARTS); Lorraine et al. 2020
(Neumann series); Pedregosa 2016 (conjugate gradients).
"""

from hdarts.hypergradient.derivatives import HypergradientWarning
from hdarts.hypergradient.first_order import direct, hypernetwork
from hdarts.hypergradient.implicit import conjugate_gradient, exact, neumann
from hdarts.hypergradient.unrolling import finite_difference, unrolled

__all__ = [
    "HypergradientWarning",
    "conjugate_gradient",
    "direct",
    "exact",
    "finite_difference",
    "hypernetwork",
    "neumann",
    "unrolled",
]
