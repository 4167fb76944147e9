"""Verdicts on the thesis's equations 2 to 22; `tests/hypergradient/test_thesis_equations.py` tests them."""

from dataclasses import asdict, dataclass
from typing import Literal

import pandas as pd


@dataclass(frozen=True)
class Equation:
    """An equation in the thesis's form, its verdict and why, the right form in our names, and its place in hdarts."""

    equation: int
    line: int
    thesis: str
    verdict: Literal["right", "wrong", "unclear"]
    why: str
    right: str
    code: str


# fmt: off
EQUATIONS = [
    Equation(2, 331, "λ* = argmin_λ L_upper(λ, w*)", "unclear",
        "w* is written as if it did not depend on λ; with (3) it does, as (5) states",
        "alpha* = argmin outer(w*(alpha), alpha)", "bilevel.BilevelProblem"),
    Equation(3, 333, "w* = argmin_w L_lower(λ, w)", "right", "for each λ; one w* only where the minimiser is unique",
        "w*(alpha) = argmin inner(w, alpha)", "bilevel.BilevelProblem"),
    Equation(4, 337, "w* = r(λ) = argmin_w L_in(λ, w)", "unclear",
        "L_in is defined nowhere; it is L_lower of (3), L_train of (6)", "w*(alpha) = argmin inner(w, alpha)",
        "toys.Toy"),
    Equation(5, 341, "λ* = argmin_λ L_val(λ, r(λ))", "right", "", "alpha* = argmin outer(w*(alpha), alpha)",
        "toys.retrained_loss"),
    Equation(6, 343, "r(λ) = argmin_w L_train(λ, w)", "right",
        "a function only where the minimiser is unique; of a network it is not", "w*(alpha) = argmin inner(w, alpha)",
        "toys.Toy"),
    Equation(7, 349, "dL_val/dλ = ∂L_val/∂λ + (∂r/∂λ)^T ∂L_val/∂w", "right",
        "the sentences around it are wrong: in an architecture search the direct part is not 0",
        "total = direct + response = d + J^T v, J = dw*/dalpha", "bilevel.Hypergradient"),
    Equation(8, 353, "∂r/∂λ = -H^-1 ∂²L_train/∂λ∂w", "right",
        "where r exists: H invertible, gradient 0. Here ∂²L/∂λ∂w has a row for each weight, in (16) and (17) one "
        "for each λ", "J = -H^-1 C, C = d2 inner/dw dalpha (rows: weights), so response = -C^T H^-1 v",
        "hypergradient.exact"),
    Equation(9, 364, "∂L_val/∂λ + sum of ∂L_val/∂w_T+1 ... ∂w_t/∂λ for t = T+1 to 1", "unclear",
        "holds for T + 1 steps from w_0, where the text has T, if each ∂w_t/∂λ is at fixed w_t-1, and with r(λ) "
        "on the left only if the last w is r(λ); the text below has w_T to w_1 computed after w_T+1, against the "
        "chain",
        "d(w_T) + sum_t (dw_t/dalpha at fixed w_t-1)^T (dw_T/dw_t)^T v(w_T), w_t = w_t-1 - xi grad inner(w_t-1)",
        "hypergradient.unrolled"),
    Equation(10, 374, "K = 1: ∂L_val/∂λ + ∂L_val/∂w_T+1 ∂w_T+1/∂w_T ... ∂w_1/∂λ", "wrong",
        "truncation keeps the last K steps; the thesis prints the first step alone, carried through all others",
        "d(w_T) + (dw_T/dalpha at fixed w_T-1)^T v(w_T) = d(w_T) - xi C(w_T-1)^T v(w_T)", "hypergradient.unrolled"),
    Equation(11, 378, "the same without ∂L_val/∂λ", "wrong",
        "the wrong term of (10), and the direct part, which is not 0", "as for (10)", "hypergradient.unrolled"),
    Equation(12, 495, "h^(j) = sum over i < j of Θ^(i,j)(h^(i))", "right", "", "the same", "supernet.Supernet"),
    Equation(13, 499, "Θ(x) = sum over o of softmax(λ)_o o(x)", "right",
        "so λ is in the loss itself: ∂L_val/∂λ at fixed w is not 0", "logits = mixture(images, w, softmax(alpha))",
        "supernet.Supernet"),
    Equation(14, 503, "o^(i,j) = argmax_o λ_o^(i,j)", "unclear",
        "not all of the rule: figure 19 (d) and section 4.5 keep two edges per node, and the code of DARTS leaves "
        "out zero", "largest weight of an edge without none; of each node the two strongest edges",
        "space.discretise"),
    Equation(15, 539, "dL_val/dλ(w*(λ), λ) ≈ dL_val/dλ(w - ξ ∂L_train/∂w, λ)", "right",
        "plain steps; the momentum and weight decay of the code of DARTS are not in it",
        "d/dalpha outer(w - xi grad inner(w, alpha), alpha)", "hypergradient.unrolled"),
    Equation(16, 545, "∂L_val/∂λ(w', λ) - ξ ∂²L_train/∂λ∂w ∂L_val/∂w'", "right", "∂L² is printed for ∂²L",
        "d(w1) - xi C(w)^T v(w1), w1 = w - xi grad inner(w)", "hypergradient.unrolled"),
    Equation(17, 549, "∂²L_train/∂λ∂w ∂L_val/∂w' ≈ (∂L_train/∂λ(w+) - ∂L_train/∂λ(w-)) / 2ε", "right",
        "∂L² is printed for ∂²L; ε is not given, DARTS has 0.01 / |∂L_val/∂w'|",
        "C^T v = (d inner/dalpha(w+) - d inner/dalpha(w-)) / (2 eps), w+- = w +- eps v(w1), eps = 0.01 / |v|",
        "hypergradient.finite_difference"),
    Equation(18, 568, "w = w_φ(λ)", "unclear",
        "w_φ is the map, its output and (algorithm 2, section 4.8.1) its parameters; and only the "
        "weights of the cells are generated", "w = [h_phi(alpha) | rest]", "bilevel.Reparametrised"),
    Equation(19, 573, "at convergence w_φ*(λ) = w* = r(λ)", "unclear",
        "needs a map that can be r and a spread of λ on which it was trained, stated only below; where it "
        "converged at one λ the value agrees and the slope, which (21) needs, need not",
        "h_phi(alpha) = w*(alpha) on an open set of alphas", "hypernetwork.Linear"),
    Equation(20, 590, "L_val(w_φ*(λ)) = L_val(w*(λ))", "unclear",
        "approximate for a linear map of a curved response; and L_val has a second argument, λ",
        "outer(h_phi(alpha), alpha) close to outer(w*(alpha), alpha) near the alphas trained on",
        "bilevel.Reparametrised"),
    Equation(21, 594, "dL_val/dλ = ∂L_val/∂λ + (∂w_φ*/∂λ)^T ∂L_val/∂w_φ", "right",
        "where (19) holds on an open set; the sentence below, that the direct part is 0, is wrong",
        "d + (dh/dalpha)^T v", "hypergradient.hypernetwork"),
    Equation(22, 598, "∂L_val/∂w_φ ∂w_φ/∂λ", "wrong", "the direct part is left out, which is not 0 (13)",
        "d + (dh/dalpha)^T v; the response alone is `part: response`", "hypergradient.hypernetwork"),
]
# fmt: on


def equations() -> pd.DataFrame:
    """Return all equations, one row each."""
    return pd.DataFrame([asdict(equation) for equation in EQUATIONS])
