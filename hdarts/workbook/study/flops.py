"""Floating-point operations of a run: of one step, counted as PyTorch takes it, times the number of steps.

Counted are convolutions and matrix products; a multiplication and an addition are two. They are counted call by call,
forward and backward, from the shapes of a step on noise, so that each gradient counts as what it computes. Not counted:
BatchNorm, activations, pooling, sums over operations and optimisers (a few per cent), eigenvalues, and what a run
computes again after a kill or a rollback. Validations of single cells count as those of the supernet.

A step costs a fixed part (hypernetworks) and a part per image, so two small batches give the cost of any batch.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hdarts.data import DatasetInfo
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search import batches, epoch_steps
from hdarts.search.loop import weight_rate
from hdarts.search.stages import StagePlan, pruned, stages_of
from hdarts.search.start import Given, start_stage
from hdarts.search.steps import phases, training_alpha
from hdarts.space import SPACES, Genotype
from hdarts.train.setup import new_network
from hdarts.workbook.study.probe import noise

CPU = torch.device("cpu")
FEW = (2, 3)  # images of the batches that are counted
aten = torch.ops.aten


def _convolution(out: Tensor, x: Tensor, w: Tensor, *rest: Any) -> int:
    transposed = rest[4]  # after bias, stride, padding and dilation
    return 2 * (x if transposed else out).numel() * math.prod(w.shape[1:])


def _convolution_backward(out: Any, g: Tensor, x: Tensor, w: Tensor, *rest: Any) -> int:
    """The gradients in the input and in the weight cost as much as the convolution, each."""
    transposed, computed = rest[4], rest[-1]  # the last: whether in input, weight and bias
    return 2 * (x if transposed else g).numel() * math.prod(w.shape[1:]) * sum(computed[:2])


# by operator: its result and arguments -> operations. PyTorch's FlopCounterMode has no products with vectors, and
# counts the gradient in the weight of a grouped convolution as often as there are groups
FORMULAS: dict[Any, Callable[..., int]] = {
    aten.convolution: _convolution,
    aten.convolution_backward: _convolution_backward,
    aten.mm: lambda out, a, b, /, **more: 2 * a.numel() * b.shape[-1],
    aten.bmm: lambda out, a, b, /, **more: 2 * a.numel() * b.shape[-1],
    aten.addmm: lambda out, c, a, b, /, **more: 2 * a.numel() * b.shape[-1],
    aten.baddbmm: lambda out, c, a, b, /, **more: 2 * a.numel() * b.shape[-1],
    aten.mv: lambda out, a, b, /, **more: 2 * a.numel(),
    aten.addmv: lambda out, c, a, b, /, **more: 2 * a.numel(),
    aten.addr: lambda out, /, *rest, **more: 2 * out.numel(),
    aten.dot: lambda out, a, b, /, **more: 2 * a.numel(),
}


class Flops(TorchDispatchMode):
    """A context that counts the operations of what PyTorch computes in it; compiled kernels are not used inside."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := FORMULAS.get(func.overloadpacket):
            self.total += formula(out, *args, **(kwargs or {}))
        return out


def flops_of_steps(
    params: SearchParams | EvaluateParams, images: DatasetInfo, cell: Genotype | None = None
) -> dict[tuple[int, str], int]:
    """Return the operations of each phase, by stage and name, at the batch size of the parameters.

    A search has the phases of `hdarts.search.steps`, the `generation` of weights and the `validation` of a batch; an
    evaluation, of a `cell`, has `weight_step` and `test`.
    """
    params = params.model_copy(update={"precision": "float32", "device": "cpu"})
    found: dict[tuple[int, str], int] = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a series that diverges on noise costs as much
        torch.manual_seed(0)
        if isinstance(params, EvaluateParams):
            assert cell is not None
            return _at_batch_size(params, 0, partial(_training_phases, params, images, cell))
        for stage in stages_of(params):
            found |= _at_batch_size(params, stage.number, partial(_search_phases, params, images, stage))
    return found


def _at_batch_size(
    params: SearchParams | EvaluateParams, stage: int, make: Callable[[int], Mapping[str, Callable[[], Any]]]
) -> dict[tuple[int, str], int]:
    counts = []
    for size in FEW:
        counts.append({})
        for name, phase in make(size).items():
            with Flops() as counter:
                phase()
            counts[-1][name] = counter.total
    few, more = counts
    return {(stage, name): few[name] + (params.batch_size - FEW[0]) * (more[name] - few[name]) for name in few}


def _search_phases(
    params: SearchParams, images: DatasetInfo, stage: StagePlan, size: int
) -> dict[str, Callable[[], Any]]:
    """Return the phases of a step on `size` images of noise at the start of a stage, with random candidates."""
    params = params.model_copy(update={"batch_size": size})
    data = noise(images, size, CPU)
    problem, state = start_stage(params, stage, data, Given(CPU))
    some = torch.rand(state.space.alpha_shape, generator=generator(0, "candidates"))
    state.relaxation.kept = pruned(some, state.relaxation.kept, stage, state.space)
    state.start_epoch(params, stage)
    state.start_step(params, params.learning_rate)
    drawn = (next(level.epoch(0, "flops", 0)) for level in batches(params, data))
    inner, outer = (state.with_draw(params, batch, "inner") for batch in drawn)
    step = phases(params.model_copy(update={"part": "direct"}), problem, state)
    terms = [inner[:2]] * (params.terms - 1 if params.fresh_batches else 0)

    w = state.weights.value(state.alpha)

    @torch.no_grad()
    def validation() -> None:
        problem.outcome(w, state.alpha, inner[:2])

    return {
        "hypergradient": lambda: step.hypergradient.function(state.with_draws(params, inner[:2], terms), outer),
        "alpha_step": lambda: step.alpha_step.function(torch.zeros_like(state.alpha)),
        "weight_step": lambda: step.weight_step.function(inner, *training_alpha(params, state)),
        "generation": lambda: state.weights.value(state.alpha),
        "validation": validation,
        "direct": lambda: step.unlogged.function(inner, outer),  # studies count searches with and without it once
    }


def _training_phases(
    params: EvaluateParams, images: DatasetInfo, cell: Genotype, size: int
) -> dict[str, Callable[[], Any]]:
    data = noise(images, size, CPU)
    network = new_network(params, cell, data)
    x = torch.rand(size, *images.shape)

    def train() -> None:
        logits, auxiliary = network.train()(x, 0.0)
        loss = logits.square().sum() + (0 if auxiliary is None else auxiliary.square().sum())
        torch.autograd.grad(loss, [*network.parameters()], allow_unused=True)  # those of edges that lead nowhere

    @torch.no_grad()
    def test() -> None:
        network.eval()(x)

    return {"weight_step": train, "test": test}


def repetitions(
    params: SearchParams | EvaluateParams, images: DatasetInfo, epochs: int | None = None
) -> dict[tuple[int, str], float]:
    """Return how often a run repeats each phase, by stage and name, in its first `epochs` (None: in all).

    A short last batch counts as its share of a step.
    """
    if isinstance(params, EvaluateParams):
        epochs = params.epochs if epochs is None else epochs
        counted = epochs * images.train / params.batch_size
        return {(0, "weight_step"): counted, (0, "test"): epochs * images.test / params.batch_size}
    found: dict[tuple[int, str], float] = {}
    last = params.all_epochs if epochs is None else epochs
    for stage in stages_of(params):
        times = _of_stage(params, images, stage, range(stage.start, min(stage.end, last)))
        found |= {(stage.number, name): count for name, count in times.items()}
    if params.candidates and last >= params.all_epochs:
        last_stage, batches = stages_of(params)[-1].number, images.validation / params.batch_size
        found[last_stage, "generation"] += params.candidates
        found[last_stage, "validation"] += params.candidates * batches
    return found


def _of_stage(params: SearchParams, images: DatasetInfo, stage: StagePlan, epochs: range) -> Mapping[str, float]:
    both = images.train + images.validation
    steps = epoch_steps(params, *((both, both) if stage.levels == "one" else (images.train, images.validation)))
    every = params.log_every
    batches = images.validation / params.batch_size  # of one validation
    names = ("hypergradient", "direct", "alpha_step", "weight_step", "generation", "validation")
    times: dict[str, float] = dict.fromkeys(names, 0.0)
    for epoch in epochs:
        logged = -(-(epoch + 1) * steps // every) - -(-epoch * steps // every)
        frozen = epoch < params.frozen_epochs or epoch - stage.start < stage.warmup_epochs
        rest = steps - logged if not frozen or params.method == "amortised-adjoint" else 0
        times["hypergradient"] += logged
        times["direct" if params.part == "direct" else "hypergradient"] += rest
        times["alpha_step"] += 0 if frozen else steps
        if weight_rate(params, epoch) > 0:
            times["weight_step"] += steps
        else:  # the loss alone
            times["generation"] += steps
            times["validation"] += steps
        times["generation"] += 1
        times["validation"] += (1 + _due(params.discretise_epochs, epoch, params)) * batches
    if stage.tuning:  # once without each operation
        times["generation"] += (decisions := math.prod(SPACES[params.space].alpha_shape))
        times["validation"] += decisions * batches
    return times


def _due(every: int, epoch: int, params: SearchParams) -> bool:
    last = epoch + 1 == params.all_epochs
    return every > 0 and not params.candidates and ((epoch + 1) % every == 0 or last)


def flops_of_run(
    params: SearchParams | EvaluateParams,
    images: DatasetInfo,
    cell: Genotype | None = None,
    epochs: int | None = None,
    steps: Mapping[tuple[int, str], int] | None = None,
) -> float:
    """Return the operations of the first `epochs` of a run (None: of all): those of its steps times their number."""
    steps = flops_of_steps(params, images, cell) if steps is None else steps
    return sum(steps[phase] * times for phase, times in repetitions(params, images, epochs).items() if times)


def record(run: Run) -> float:
    """Write the operations of a run, as far as it got, to its provenance.json as `flops`, and return them."""
    if (known := run.provenance.get("flops")) is not None:
        return known
    params, data = run.params, run.provenance["data"]
    found = 0.0
    if isinstance(params, EvaluateParams) or (isinstance(params, SearchParams) and params.method != "random"):
        shape, classes = tuple(data["shape"]), len(data["classes"])
        images = DatasetInfo(data["train"], data.get("validation", 0), shape, classes, data.get("test", 0))
        cell = Genotype.from_json((run.folder / "genotype.json").read_text(encoding="utf-8"))
        found = flops_of_run(params, images, cell, len(run.table("metrics")))
    run.add_provenance(flops=found)
    return found
