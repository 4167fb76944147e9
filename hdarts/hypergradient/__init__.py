r"""One function per method: each estimates d outer/d alpha of a `BilevelProblem` and returns a `Hypergradient`.

With v = d outer/dw, H = d2 inner/dw2 and C = d2 inner/dw d alpha (rows: weights), the hypergradient at w*(alpha) is

$$ \frac{d\,\mathrm{outer}}{d\alpha} = \frac{\partial\,\mathrm{outer}}{\partial\alpha} - C^T H^{-1} v, $$

the direct part at fixed w plus the response of the weights. The methods differ in their approximation of H^-1 v, and in
the weights at which the derivatives are taken. H is never built, except in `exact`, and at most one graph is alive at a
time.

For every function: `w` are the weights (usually a flat vector), `alpha` has any shape; arguments are not changed and
results are detached; the gradient in an unused argument is 0. Raises ValueError for an impossible argument, and
FloatingPointError where a loss or a derivative is nan or infinite; both name the value. `bilevel.Hypergradient`
explains `info`. Sources: thesis, sections 4.4.1 and 4.4.2; Liu et al. 2019 (DARTS); Lorraine et al. 2020
(Neumann series); Pedregosa 2016 (conjugate gradients); the others are named in their functions.

An example with a known answer: inner (w + sin alpha)^2 / 2, outer (w - 1/2)^2 / 2, so w* = -sin alpha and the
hypergradient is cos alpha (sin alpha + 1/2). First-order DARTS misses all of it:

>>> import torch
>>> from hdarts import hypergradient as hg
>>> from hdarts.toys import Sine
>>> toy, alpha = Sine(t=0.5), torch.tensor(0.3, dtype=torch.float64)
>>> w = toy.best_response(alpha)
>>> round(float(alpha.cos() * (alpha.sin() + 0.5)), 6)
0.759989
>>> round(hg.exact(toy, w, alpha, None, None).total.item(), 6)
0.759989
>>> round(hg.finite_difference(toy, w, alpha, None, None, step_size=1.0).total.item(), 6)
0.759989
>>> hg.direct(toy, w, alpha, None).total.item()
0.0
"""

from hdarts.hypergradient.amortised import amortised_adjoint
from hdarts.hypergradient.derivatives import HypergradientWarning
from hdarts.hypergradient.first_order import direct, hypernetwork, through_weights
from hdarts.hypergradient.implicit import conjugate_gradient, exact, neumann
from hdarts.hypergradient.nystrom import nystrom, sampled_columns
from hdarts.hypergradient.sama import adam_diagonal, sama
from hdarts.hypergradient.unrolling import finite_difference, unrolled

__all__ = [
    "HypergradientWarning",
    "adam_diagonal",
    "amortised_adjoint",
    "conjugate_gradient",
    "direct",
    "exact",
    "finite_difference",
    "hypernetwork",
    "neumann",
    "nystrom",
    "sama",
    "sampled_columns",
    "through_weights",
    "unrolled",
]
