"""The parts of a search, made from its parameters: images, supernet, weights, hypernetwork, hypergradient."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hdarts import hypergradient as hg
from hdarts.bilevel import Hypergradient
from hdarts.data import Augmentation, Batches, Images, Splits, count_batches, load
from hdarts.errors import ParameterError
from hdarts.hypernetwork import MLP, ByKind, Chunked, Graph, Linear, LowRank
from hdarts.kernels.output_layer import Rate
from hdarts.params import SearchParams
from hdarts.params.schedule import ever_positive
from hdarts.runs.randomness import generator
from hdarts.search.stages import StagePlan, stages_of
from hdarts.search.tangent import TangentWeights
from hdarts.search.weights import Batch, Exploration, GeneratedWeights, LearnedWeights, SGDSettings, Weights
from hdarts.space import SPACES
from hdarts.space.layers import check_size
from hdarts.supernet import Supernet


def load_splits(params: SearchParams, device: torch.device) -> Splits:
    """Load the images of a search: a training and a validation part, no test part."""
    return load(params.data, **params.source(), device=device)


def batches(params: SearchParams, data: Splits, levels: str = "two") -> tuple[Batches, Batches]:
    """Return the augmented batches of the inner (training) and the outer (validation) level.

    With `levels` one, both are those of all images.
    """
    assert data.validation is not None
    if levels == "one":
        data = replace(data, train=joined(data.train, data.validation))
        data = replace(data, validation=data.train)
    augmentation = Augmentation(params.crop_padding, params.flip, params.cutout)
    settings = params.batch_size, augmentation, params.drop_last
    inner, outer = (Batches(part, *settings) for part in (data.train, data.validation) if part is not None)
    return inner, outer


def joined(one: Images, other: Images) -> Images:
    """Return the images of both parts, with the statistics of the first."""
    if not isinstance(one.pixels, Tensor) or not isinstance(other.pixels, Tensor):
        raise ParameterError("levels: one needs all images in memory; set stream: false")
    return replace(one, pixels=torch.cat([one.pixels, other.pixels]), labels=torch.cat([one.labels, other.labels]))


def epoch_steps(params: SearchParams, training: int, validation: int) -> int:
    """Return the number of steps of an epoch, for so many images on the two levels.

    A step takes a batch of each level. An epoch ends with the longer level; the shorter one restarts, freshly shuffled,
    so that no image is left out. With `drop_last`, as in hdarts 0.1, it ends with the shorter level.
    """
    batches = [count_batches(images, params.batch_size, params.drop_last) for images in (training, validation)]
    return min(batches) if params.drop_last else max(batches)


def make_supernet(params: SearchParams, data: Splits, stage: StagePlan | None = None) -> Supernet:
    """Return the supernet that the parameters describe, for these images, in a stage (by default the first)."""
    stage = stage or stages_of(params)[0]
    check_size(params.stem, data.train.shape)
    return Supernet(
        SPACES[params.space],
        params.channels,
        stage.layers,
        len(data.classes),
        data.train.shape[0],
        auxiliary_skip=ever_positive(params.auxiliary_skip),
        partial_channels=stage.partial_channels,
        stem=params.stem,
    )


def make_hypernetwork(params: SearchParams, model: Supernet, n_alpha: int = 0) -> ByKind:
    """Return one hypernetwork per kind of cell, and one for the rest if that is generated too.

    `n_alpha`: architecture parameters per kind, if the parametrisation has more than one per operation and edge.
    Raises ParameterError for a user-defined supernet that does not say which weights belong to which edge.
    """
    n_alpha = n_alpha or model.space.n_alpha
    if not (hasattr(model, "convolution_shapes") and hasattr(model, "convolution_edges")):
        raise ParameterError(
            f"hypernetwork: {params.hypernetwork} needs a supernet with convolution_shapes and convolution_edges, as "
            "hdarts.supernet.Supernet has them; pass a custom hypernetwork for another one"
        )

    def one(n_alpha: int, shapes: list[tuple[int, ...]], places: Sequence[int] = ()) -> Any:
        sizes = tuple(math.prod(shape) for shape in shapes)
        if params.hypernetwork == "linear":
            return Linear(n_alpha, sum(sizes))
        if params.hypernetwork == "low-rank":
            if params.rank > sum(sizes):
                raise ParameterError(f"rank: {params.rank} is more than the {sum(sizes)} weights to generate")
            return LowRank(n_alpha, sum(sizes), params.rank)
        if params.hypernetwork == "chunked":
            return Chunked(n_alpha, tuple(shapes), params.embedding, params.sequential)
        hidden = params.hidden_size or n_alpha // 2
        if params.hypernetwork == "graph":
            cell = model.space.edges, tuple(places)
            return Graph(n_alpha, sizes, *cell, hidden, params.message_rounds, params.activation)
        return MLP(n_alpha, sizes, hidden, params.activation, shared=params.hidden == "shared")

    kinds = range(len(model.space.kinds))
    rest = None
    if params.rest == "generated":
        cells = sum(len(model.convolution_shapes(kind)) for kind in kinds)
        rest = one(len(kinds) * n_alpha, list(model.layout.shapes[cells:]))
    return ByKind([one(n_alpha, model.convolution_shapes(k), model.convolution_edges(k)) for k in kinds], rest)


def make_weights(
    params: SearchParams,
    model: Supernet,
    hypernetwork: ByKind | None,
    device: torch.device,
    *,
    n_alpha: int = 0,
    purpose: tuple[int, ...] = (),
) -> Weights:
    """Return the weights before training: learned directly or, for method hypernetwork, generated.

    They have the precision of `model.initial_w`: a custom supernet can search in float64. `purpose` is empty in the
    first stage of a search, and the number of a later one, so that its random numbers differ.
    """
    settings = SGDSettings(params.momentum, params.weight_decay, params.clip, params.nesterov)
    w = model.initial_w(generator(params.search_seed, "weights", *purpose)).to(device)
    if params.method != "hypernetwork":
        if params.method == "nystrom" and params.rank > w.numel():
            raise ParameterError(f"rank: {params.rank} is more than the {w.numel()} weights of the supernet")
        adjoint = torch.zeros_like(w) if params.method == "amortised-adjoint" else None
        columns = torch.arange(params.rank, device=device) if params.method == "nystrom" else None
        return LearnedWeights(w, settings, adjoint, columns)
    h = hypernetwork or make_hypernetwork(params, model, n_alpha)
    phi = h.initial_phi(generator(params.search_seed, "hypernetwork", *purpose))
    parts = h, phi.to(w), w[h.n_weights :].clone(), settings
    if params.response_update == "tangent":
        weights: GeneratedWeights = TangentWeights(*parts, params.response_rate)
    else:
        softmax = params.hypernetwork_input == "softmax"
        weights = GeneratedWeights(*parts, Exploration(params.noise, params.antithetic, params.centred, softmax))
    if params.initialisation == "zero-response":
        weights.start_without_response(w)
    return weights


def method_hypergradient(
    params: SearchParams, problem: Any, weights: Any, alpha: Tensor, inner: Batch, outer: Batch, rate: Rate,
    part: str = "total",
) -> Hypergradient:  # fmt: skip
    """Return the hypergradient by the method of the parameters; `rate` is the current learning rate of the weights.

    With `part` "direct" the response is not computed but 0.
    """
    w = weights.value(alpha)
    if part == "direct" and params.method not in ("darts-second", "unrolled"):
        return hg.direct(problem, w, alpha, outer)
    if params.method == "hypernetwork":
        return hg.through_weights(problem, w, alpha, outer, partial(weights.response, alpha))
    if params.method in ("darts-first", "shared-weights"):  # shared weights: for the log only, alpha is frozen
        return hg.direct(problem, w, alpha, outer)
    if params.method == "neumann":
        return hg.neumann(problem, w, alpha, inner, outer, rate, params.terms)
    if params.method == "conjugate-gradient":
        return hg.conjugate_gradient(problem, w, alpha, inner, outer, params.iterations, damping=params.damping)
    if params.method == "nystrom":
        return hg.nystrom(problem, w, alpha, inner, outer, weights.columns, params.damping)
    if params.method == "sama":  # the derivative of a step of SGD in its gradient
        return hg.sama(problem, w, alpha, inner, outer, rate * (1 + params.momentum) if params.nesterov else rate)
    if params.method == "amortised-adjoint":
        step, damping = params.adjoint_step, params.damping
        found, moved = hg.amortised_adjoint(problem, w, alpha, inner, outer, weights.adjoint, step, damping)
        weights.adjoint.copy_(moved)
        return found
    sgd: dict[str, Any] = {"momentum": params.momentum, "weight_decay": weights.settings.decay}
    sgd |= {"velocity": weights.velocity, "nesterov": params.nesterov}
    if params.method == "darts-second" and part != "direct":
        return hg.finite_difference(problem, w, alpha, inner, outer, rate, params.epsilon, **sgd)
    batches = [inner] * (params.steps if params.method == "unrolled" else 1)
    truncate = 0 if part == "direct" else params.truncate or None
    return hg.unrolled(problem, w, alpha, batches, outer, rate, truncate, **sgd)
