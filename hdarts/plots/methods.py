"""Drawings of the methods with the sizes of the actual objects: figures 14, 15, 21 and 24 of the thesis.

Methods differ in how `w` depends on `alpha`; the loss depends on `alpha` directly in all of them.
"""

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from hdarts.plots.diagram import Diagram, count
from hdarts.plots.style import styled

if TYPE_CHECKING:  # other figures need no torch
    from hdarts.hypernetwork import ByKind
    from hdarts.supernet import Supernet

KINDS = {"normal": "normal cells", "reduce": "reduction cells", "cell": "cells"}
# method: (how w follows alpha, the response gradient for v = dL_val/dw)
LOOK_AHEAD = "$w' = w - \\xi\\,\\nabla_w L_{train}(w, \\alpha)$"
RESPONSES = {
    "darts-first": ("$w$ is held fixed", "0"),
    "darts-second": (
        f"one look-ahead step\n{LOOK_AHEAD}",
        "$-\\xi\\,[\\nabla_\\alpha L_{train}(w^+) - \\nabla_\\alpha L_{train}(w^-)]\\,/\\,2\\epsilon$,"
        "   $w^\\pm = w \\pm \\epsilon v$",
    ),
    "unrolled": (
        f"$T$ = STEPS look-ahead steps\n{LOOK_AHEAD}",
        "back-propagation through the steps, $(\\partial w'/\\partial\\alpha)^T v$",
    ),
    "neumann": (
        "$w$ is taken as $w^*(\\alpha)$,\nwhere $\\nabla_w L_{train} = 0$",
        "$-C^T \\xi \\sum_{j < K} (I - \\xi H)^j v$",
    ),
    "conjugate-gradient": (
        "$w$ is taken as $w^*(\\alpha)$,\nwhere $\\nabla_w L_{train} = 0$",
        "$-C^T q$,   $H q \\approx v$ by conjugate gradients",
    ),
    "nystrom": (
        "$w$ is taken as $w^*(\\alpha)$,\nwhere $\\nabla_w L_{train} = 0$",
        "$-C^T q$,   $(\\tilde{H} + \\rho I)\\, q = v$ with $\\tilde{H}$ from some columns of $H$",
    ),
    "sama": (
        "$w$ is taken as $w^*(\\alpha)$,\nwhere $\\nabla_w L_{train} = 0$",
        "$-C^T D\\, v$,   $D$: derivative of the optimiser's step in its gradient",
    ),
    "amortised-adjoint": (
        "$w$ is taken as $w^*(\\alpha)$,\nwhere $\\nabla_w L_{train} = 0$",
        "$-C^T q$,   then one step $q \\leftarrow q - \\rho\\,(H q - v)$",
    ),
    "hypernetwork": (
        "hypernetwork\n$w = h_\\phi(\\alpha)$",
        "back-propagation through the hypernetwork, $(\\partial h_\\phi/\\partial\\alpha)^T v$",
    ),
}


@styled
def draw_method(method: str, supernet: "Supernet", hypernetwork: "ByKind | None" = None, steps: int = 1) -> Figure:
    """Return one hypergradient step of `method` as a drawing (figures 14 and 15 of the thesis).

    `hypernetwork` gives the size of phi; `steps` is T of unrolling. Raises KeyError for a method without hypergradient.
    """
    how, response = RESPONSES[method]
    follows = method != "darts-first"
    d = Diagram(2.2)
    alpha = d.box(0.62, 1.6, f"$\\alpha$\n{' × '.join(map(str, supernet.space.alpha_shape))}", "alpha", 0.9)
    learned = "$\\phi$" if hypernetwork else "$w$"
    size = count(hypernetwork.n_phi if hypernetwork else supernet.n_w)
    trained = d.box(0.62, 0.75, f"{learned}: {size}\ndescends $L_{{train}}$", "weights", 0.9)
    follow = d.box(2.55, 0.75, how.replace("STEPS", str(steps)), "made", 1.55)
    prime = "'" if "look-ahead" in how else ""
    w = d.box(4.25, 0.75, f"$w{prime}$: {count(supernet.n_w)}", "weights", 0.9)
    net = d.box(4.25, 1.6, "supernet on a\nvalidation batch", "net", 1.0)
    loss = d.box(5.72, 1.6, "loss\n$L_{val}$", "data", 0.6)
    for start, end in ((trained, follow), (follow, w), (w, net), (net, loss)):
        d.arrow(start, end, shift=-0.05 if start in (follow, w, net) else 0.0)
    d.arrow(alpha, net, shift=-0.05)
    if follows:
        d.arrow(alpha, follow, shift=-0.05)
    d.text(2.75, 1.49, "softmax($\\alpha$) weights the operations", va="top", size=6.5)
    d.arrow(loss, net, "direct", shift=-0.05)
    d.arrow(net, alpha, "direct", bend=-0.1)
    d.text(2.4, 1.97, "direct: $\\partial L_{val}/\\partial\\alpha$ at fixed $w$", va="bottom")
    if follows:
        for start, end in ((loss, net), (net, w), (w, follow), (follow, alpha)):
            d.arrow(start, end, "response", shift=-0.11 if start is loss else -0.05)
    d.text(3.15, 0.38, f"response: {response}")
    d.legend(("forward", "direct", *("response",) * follows), borderaxespad=0.1)
    return d.figure


@styled
def draw_hypernetworks(hypernetwork: "ByKind", supernet: "Supernet") -> Figure:
    """Return which hypernetwork generates which weights of the supernet (figures 21 and 24 of the thesis).

    With `hypernetwork.rest` None the weights outside the cells are learned directly: method 1 of the thesis's
    experiment 1.1; with a third hypernetwork, which is fed all of alpha, it is method 2.
    """
    kinds, edges, operations = supernet.space.alpha_shape
    rows = 0.62
    height = rows * (kinds + 1) + 0.4
    d = Diagram(height)
    words = f"supernet\n{len(supernet.cells)} cells\n{count(supernet.n_w)} weights"
    net = d.box(5.55, height / 2 + 0.15, words, "net")
    for kind, (name, h) in enumerate(zip(supernet.space.kinds, hypernetwork.hypernetworks, strict=True)):
        y = height - 0.3 - rows * kind
        words = f"$\\alpha$, {KINDS[name]}\n{edges} × {operations} = {edges * operations}"
        _generated(d, y, words, h, f"$w$, {KINDS[name]}", net)
    y = height - 0.3 - rows * kinds
    rest = supernet.n_w - sum(supernet.n_cell_w)
    if hypernetwork.rest is None:
        w = d.box(4.0, y, f"$w$, rest (method 1)\n{count(rest)}", "weights", 1.15)
        d.arrow(w, net)
        d.text(1.9, y, "method 1: stem, preprocessing and classifier\nare learned without a hypernetwork", size=6.5)
    else:
        _generated(
            d, y, f"all of $\\alpha$\n{kinds * edges * operations}", hypernetwork.rest, "$w$, rest (method 2)", net
        )
    learned = hypernetwork.n_phi + (rest if hypernetwork.rest is None else 0)
    d.text(3.15, 0.12, f"learned by SGD: {learned:,} numbers, of them {hypernetwork.n_phi:,} of hypernetworks")
    return d.figure


def _generated(d: Diagram, y: float, words: str, h: Any, name: str, net: FancyBboxPatch) -> None:
    """Draw one row: alpha, the hypernetwork, and the weights that it generates from alpha."""
    alpha = d.box(0.75, y, words, "alpha", 1.1)
    box = d.box(2.35, y, f"{_layers(h)}\n$\\phi$: {count(h.n_phi)}", "made", 1.5)
    w = d.box(4.0, y, f"{name}\n{count(h.n_weights)}", "weights", 1.15)
    for start, end in ((alpha, box), (box, w), (w, net)):
        d.arrow(start, end)


def _layers(h: Any) -> str:
    """Return kind and layer widths of a hypernetwork in words."""
    from hdarts.hypernetwork import MLP, Chunked, Linear, LowRank

    match h:
        case Linear():
            return f"linear {h.n_alpha}–{count(h.n_weights)}"
        case LowRank():
            return f"low rank {h.n_alpha}–{h.rank}–{count(h.n_weights)}"
        case MLP(shared=True):
            return f"MLP {h.n_alpha}–{h.hidden}–{count(h.n_weights)}, {h.activation}"
        case MLP():
            return f"{h.perceptrons:,} × MLP {h.n_alpha}–{h.hidden}–n, {h.activation}"
        case Chunked():
            return f"chunked, $z$ of {h.embedding}{', one by one' if h.sequential else ''}"
    return type(h).__name__
