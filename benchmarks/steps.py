"""The steps of a search that are timed, in the plain version (reference.py, torch.optim) and as a search takes them.

A step is a function without arguments; each call takes one more step.
"""

import copy
import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import training
from benchmarks.reference import PlainHyperdarts
from benchmarks.setting import CLIP, DECAY, HIDDEN, MOMENTUM, RATE, SGD, Setting, Step, plain_sgd
from hdarts import hypergradient
from hdarts.bilevel import Hypergradient
from hdarts.hypernetwork import MLP, ByKind, Linear
from hdarts.kernels.output_layer import Factored, SegmentedLinear, clip_factor
from hdarts.runs.randomness import generator
from hdarts.search.weights import Batch, Classification, Exploration, GeneratedWeights, LearnedWeights


def adam(alpha: Tensor) -> torch.optim.Adam:
    """Return the optimiser of alpha."""
    return torch.optim.Adam([alpha], 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)


# --- the plain version -----------------------------------------------------------------------------------------------


def plain_loss(model: nn.Module, alpha: Tensor, batch: Batch) -> Tensor:
    """Return the cross entropy; the plain supernet takes softmax(alpha), the plain hyperDARTS takes alpha."""
    given = alpha if isinstance(model, PlainHyperdarts) else alpha.softmax(-1)
    return F.cross_entropy(model(batch[0], given), batch[1])


def plain_weight_step(model: nn.Module, trained: list[nn.Parameter], alpha: Tensor, batch: Batch) -> Step:
    """Return a step: backward pass, joint norm clip, SGD."""
    optimiser = plain_sgd(trained)

    def step() -> None:
        optimiser.zero_grad()
        plain_loss(model, alpha.detach(), batch).backward()
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()

    return step


def plain_alpha_step(model: nn.Module, alpha: Tensor, batch: Batch) -> Step:
    """Return a first-order step: `loss.backward()` as in public codes, which computes gradients of w too; Adam."""
    alpha.requires_grad_()
    optimiser = adam(alpha)

    def step() -> None:
        optimiser.zero_grad()
        model.zero_grad()
        plain_loss(model, alpha, batch).backward()
        optimiser.step()

    return step


def plain_second_order(model: nn.Module, alpha: Tensor, inner: Batch, outer: Batch) -> Step:
    """Return DARTS's alpha step: a copy of the network after one SGD step, then a difference quotient."""
    alpha.requires_grad_()
    optimiser = adam(alpha)
    velocity = [torch.zeros_like(p) for p in model.parameters()]

    def step() -> None:
        slopes = torch.autograd.grad(plain_loss(model, alpha, inner), list(model.parameters()))
        ahead = copy.deepcopy(model)
        with torch.no_grad():
            for p, speed, slope in zip(ahead.parameters(), velocity, slopes, strict=True):
                p.sub_(RATE * (MOMENTUM * speed + slope + DECAY * p))
        optimiser.zero_grad()
        plain_loss(ahead, alpha, outer).backward()
        v = [p.grad for p in ahead.parameters() if p.grad is not None]
        epsilon = 0.01 / float(torch.cat([one.flatten() for one in v]).norm())
        sides = []
        for shift in (epsilon, -2 * epsilon, epsilon):
            with torch.no_grad():
                for p, one in zip(model.parameters(), v, strict=True):
                    p.add_(one, alpha=shift)
            if len(sides) < 2:
                sides.append(torch.autograd.grad(plain_loss(model, alpha, inner), alpha)[0])
        assert alpha.grad is not None
        alpha.grad -= RATE * (sides[0] - sides[1]) / (2 * epsilon)
        optimiser.step()

    return step


def plain(name: str, setting: Setting) -> Step:
    """Return the step of this name in the plain version."""
    alpha, inner, outer = setting.data()
    net = setting.plain()
    if name == "weight step":
        return plain_weight_step(net, list(net.parameters()), alpha, inner)
    if name == "first-order alpha step":
        return plain_alpha_step(net, alpha, outer)
    if name == "second-order alpha step":
        return plain_second_order(net, alpha, inner, outer)
    ours = setting.net()
    shapes = [ours.convolution_shapes(kind) for kind in range(len(setting.of.kinds))]
    hidden = HIDDEN if name == "hyperDARTS-2 iteration" else 0
    model = PlainHyperdarts(net, ours.layout, setting.of.n_alpha, shapes, hidden).to(setting.device)
    trained = model.trained()
    alpha_step, weight_step = plain_alpha_step(model, alpha, outer), plain_weight_step(model, trained, alpha, inner)
    return lambda: (alpha_step(), weight_step())


# --- as a search does it ------------------------------------------------------------------------------------------


def ours(name: str, setting: Setting) -> Step:
    """Return the step of this name as `hdarts.search` takes it."""
    alpha, inner, outer = setting.data()
    net = setting.net()
    problem, optimiser, noise = (
        Classification(net, relaxation=setting.relaxation()),
        adam(alpha),
        torch.zeros_like(alpha),
    )
    w = net.initial_w(generator(0, "weights")).to(setting.device)
    weights = LearnedWeights(w, SGD)

    def move(found: Hypergradient) -> None:
        alpha.grad = found.total
        optimiser.step()

    if name == "weight step":
        return lambda: weights.step(problem, alpha, inner, RATE, noise)
    if name == "first-order alpha step":
        return lambda: move(hypergradient.direct(problem, w, alpha, outer))
    if name == "second-order alpha step":
        more = {"momentum": MOMENTUM, "velocity": weights.velocity, "weight_decay": DECAY}
        return lambda: move(hypergradient.finite_difference(problem, w, alpha, inner, outer, RATE, **more))
    sizes = [tuple(math.prod(shape) for shape in net.convolution_shapes(kind)) for kind in range(len(setting.of.kinds))]
    two, n = name == "hyperDARTS-2 iteration", setting.of.n_alpha
    h = ByKind([MLP(n, size, HIDDEN, shared=False) if two else Linear(n, sum(size)) for size in sizes])
    phi = h.initial_phi(generator(0, "hypernetwork")).to(setting.device)
    generated = GeneratedWeights(h, phi, w[h.n_weights :].clone(), SGD, Exploration())

    def iteration() -> None:
        response = partial(generated.response, alpha)
        move(hypergradient.through_weights(problem, generated.value(alpha), alpha, outer, response))
        generated.step(problem, alpha, inner, RATE, noise)

    return iteration


# --- the output layer of a hypernetwork alone ------------------------------------------------------------------------

ROWS, WIDTH = 1_831_168, 112  # with biases these are the thesis's 207 million weights


def output_layer(side: str, setting: Setting) -> Step:
    """Return a step of SGD with norm clip, momentum and weight decay on 207 million weights."""
    draw = generator(0, "layer")
    g, z = (torch.randn(size, generator=draw).to(setting.device) for size in (ROWS, WIDTH))
    if side == "plain":
        weight, bias = (torch.full(size, 0.1, device=setting.device) for size in ((ROWS, WIDTH), (ROWS,)))
        parameters = [nn.Parameter(weight), nn.Parameter(bias)]
        optimiser = torch.optim.SGD(parameters, RATE, MOMENTUM, weight_decay=DECAY, foreach=True)

        def formed() -> None:
            parameters[0].grad, parameters[1].grad = torch.outer(g, z), g.clone()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            optimiser.step()

        return formed
    phi = torch.full((ROWS * (WIDTH + 1),), 0.1, device=setting.device)
    layer, velocity = SegmentedLinear((ROWS,), WIDTH), torch.zeros_like(phi)

    def factored() -> None:
        gradient = Factored(layer, g[:0], g.unsqueeze(0), z.view(1, 1, -1))
        _, scale = clip_factor([gradient.squared_norm()], CLIP)
        gradient.step_(phi, velocity, scale, RATE, MOMENTUM, DECAY)

    return factored


SIDES = ("plain", "ours")
STEPS = (
    "weight step",
    "first-order alpha step",
    "second-order alpha step",
    "hyperDARTS-1 iteration",
    "hyperDARTS-2 iteration",
)
OUTPUT_LAYER = "output layer, 207 M weights"
OTHERS: dict[str, Callable[[str, Setting], Step]] = {
    OUTPUT_LAYER: output_layer,
    training.TRAINING_STEP: training.training_step,
    training.BATCHES: lambda side, setting: training.batches(side, setting, workers=0),
    training.BATCHES_BY_WORKERS: lambda side, setting: training.batches(side, setting, workers=2),
}


def step(side: str, name: str, setting: Setting) -> Step:
    """Return the step `name` of a `side`: plain or ours."""
    if name in OTHERS:
        return OTHERS[name](side, setting)
    return plain(name, setting) if side == "plain" else ours(name, setting)
