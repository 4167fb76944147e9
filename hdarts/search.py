"""One architecture search: step alpha along a hypergradient, step the weights along the inner gradient, every batch.

    for each pair of batches (report algorithms 1 and 2):
        alpha <- Adam(alpha, d L_val / d alpha)       # the method's hypergradient at the current weights
        weights <- SGD(weights, d L_train / d weights)

`search` is a generator that yields one row an epoch. All its randomness is a function of (seed, purpose, epoch, step),
and its checkpoint is complete: killed anywhere and started again, it ends bit for bit where an undisturbed run ends
(CPU, same number of threads). The test set is never opened here.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from hdarts import checkpoint
from hdarts import hypergradient as methods
from hdarts.bilevel import Hypergradient
from hdarts.data import Augmentation, Batches, Splits, in_order, load
from hdarts.hypernetwork import MLP, ByKind, Chunked, Linear, LowRank
from hdarts.loop import CheckpointClock, cosine, use_machine
from hdarts.params import SearchParams, identity
from hdarts.progress import progress
from hdarts.randomness import generator
from hdarts.records import Run
from hdarts.space import DARTS, discretise, skip_count
from hdarts.supernet import Supernet
from hdarts.weights import Batch, Classification, Exploration, Generated, Own, SGDSettings, Step, Weights

Row = dict[str, Any]


def search(
    params: SearchParams,
    run: Run,
    *,
    data: Splits | None = None,
    supernet: Any = None,
    hypernetwork: ByKind | None = None,
    hypergradient: Any = None,
) -> Iterator[Row]:
    """Search as `params` say and yield a row of metrics an epoch; a run that is done yields its rows again.

    Own parts can be passed as objects: `data` (with a validation part), `supernet` (pure, as hdarts.supernet),
    `hypernetwork` (used when params.method is hypernetwork), and `hypergradient`, a function
    (problem, weights, alpha, inner batch, outer batch, learning rate) -> Hypergradient.

    Writes metrics.csv, hypergradients.csv, alpha.csv, timings.csv, checkpoints, genotype.json, result.json. Raises
    ParameterError before any work, FloatingPointError when a loss, gradient or alpha is not finite.
    """
    if run.done:
        yield from run.table("metrics").to_dict("records")
        return
    device = use_machine(params)
    if params.method == "random":
        _finish_random(params, run)
        return
    data = data or load_splits(params, device)
    model = supernet or make_supernet(params, data)
    problem = Classification(model)
    state = State.fresh(params, model, hypernetwork, device)
    state.restore(checkpoint.load(run.folder, identity(params)))
    hypergradient = hypergradient or make_hypergradient(params)
    inner, outer = batches(params, data)
    steps = min(len(inner), len(outer))  # a step takes a pair of batches; the longer part gives what the shorter has
    log = Log.resume(run, state)
    clock = CheckpointClock(params)
    run.write_provenance(data=data.name, data_digest=data.digest, device=str(device), **counts(model, state.weights))

    for epoch in range(state.epoch, params.epochs):
        rate = cosine(params.learning_rate, params.learning_rate_min, epoch, params.epochs)
        log.start_epoch()
        pairs = zip(
            inner.epoch(params.search_seed, "inner", epoch, state.step),
            outer.epoch(params.search_seed, "outer", epoch, state.step),
            strict=False,
        )
        label = f"{params.slug()} epoch {epoch + 1}/{params.epochs}"
        for inner_batch, outer_batch in progress(pairs, steps - state.step, label):
            with named(f"epoch {epoch + 1}, step {state.step}"):
                found = hypergradient(problem, state.weights, state.alpha, inner_batch, outer_batch, rate)
                if state.steps_done(steps) % params.log_every == 0:
                    log.hypergradient(state, found, rate, steps)
                step_alpha(state, part_of(found, params.part))
                noise = generator(params.search_seed, "noise", epoch, state.step)
                step = state.weights.step(problem, state.alpha, inner_batch, rate, noise)
            state.count(step, len(inner_batch[1]))
            state.step += 1
            if state.step < steps and clock.due_in_epoch():
                log.write_steps()
                save(run, params, state, clock)

        row = log.end_epoch(state, rate, validate(problem, state, data, params.batch_size))
        state.start_next_epoch()
        if clock.due_after(epoch + 1, params.epochs):
            save(run, params, state, clock, keep=epoch + 1 in params.keep_epochs)
        yield row

    finish(params, run, state, model)


@dataclass
class State:
    """Everything a search is, between two steps."""

    alpha: Tensor
    adam: torch.optim.Adam
    weights: Weights
    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("loss", "correct", "images"), 0.0))

    @classmethod
    def fresh(cls, params: SearchParams, model: Supernet, hypernetwork: ByKind | None, device: torch.device) -> "State":
        """Return the state before the first step: alpha near 0, weights as layers start (report 4.8.1)."""
        start = torch.randn(model.space.alpha_shape, generator=generator(params.search_seed, "alpha"))
        alpha = (params.alpha_scale * start).to(device)
        betas = (params.alpha_beta1, params.alpha_beta2)
        adam = torch.optim.Adam(
            [alpha], lr=params.alpha_learning_rate, betas=betas, weight_decay=params.alpha_weight_decay
        )
        return cls(alpha, adam, make_weights(params, model, hypernetwork, device))

    def steps_done(self, steps: int) -> int:
        """Number of steps taken since the start of the search, with `steps` in an epoch."""
        return self.epoch * steps + self.step

    def count(self, step: Step, images: int) -> None:
        """Add one step to the sums of the epoch."""
        self.sums["loss"] += step.loss * images
        self.sums["correct"] += step.correct
        self.sums["images"] += images

    def start_next_epoch(self) -> None:
        """Begin the next epoch with empty sums."""
        self.epoch, self.step, self.sums = self.epoch + 1, 0, dict.fromkeys(self.sums, 0.0)

    def saved(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        plain = {"epoch": self.epoch, "step": self.step, "sums": self.sums}
        return {**plain, "alpha": self.alpha, "adam": self.adam.state_dict(), "weights": self.weights.tensors()}

    def restore(self, saved: dict[str, Any] | None) -> None:
        """Take over a saved state; None leaves the fresh one."""
        if saved is None:
            return
        self.epoch, self.step, self.sums = saved["epoch"], saved["step"], saved["sums"]
        self.alpha.copy_(saved["alpha"])
        self.adam.load_state_dict(saved["adam"])
        for name, tensor in self.weights.tensors().items():
            tensor.copy_(saved["weights"][name])


def load_splits(params: SearchParams, device: torch.device) -> Splits:
    """Load the images of a search: a training and a validation part, no test part."""
    return load(
        params.data,
        folder=params.data_folder,
        limit=params.limit,
        image_size=params.image_size,
        validation_fraction=params.validation_fraction,
        split_seed=params.split_seed,
        device=device,
    )


def batches(params: SearchParams, data: Splits) -> tuple[Batches, Batches]:
    """Return the augmented batches of the inner (training) and the outer (validation) level."""
    assert data.validation is not None
    augmentation = Augmentation(params.crop_padding, params.flip, params.cutout)
    inner, outer = (Batches(part, params.batch_size, augmentation) for part in (data.train, data.validation))
    return inner, outer


def make_supernet(params: SearchParams, data: Splits) -> Supernet:
    """Return the supernet of the parameters for the images."""
    return Supernet(DARTS, params.channels, params.layers, len(data.classes), data.train.shape[0])


def make_hypernetwork(params: SearchParams, model: Supernet) -> ByKind:
    """Return the hypernetworks: one for each kind of cell, and one for the rest where that is generated too."""

    def one(n_alpha: int, shapes: list[tuple[int, ...]]) -> Any:
        sizes = tuple(math.prod(shape) for shape in shapes)
        if params.hypernetwork == "linear":
            return Linear(n_alpha, sum(sizes))
        if params.hypernetwork == "low-rank":
            return LowRank(n_alpha, sum(sizes), params.rank)
        if params.hypernetwork == "chunked":
            return Chunked(n_alpha, tuple(shapes), params.embedding)
        hidden = params.hidden_size or n_alpha // 2
        return MLP(n_alpha, sizes, hidden, params.activation, shared=params.hidden == "shared")

    kinds = range(len(model.space.kinds))
    rest = None
    if params.rest == "generated":
        cells = sum(len(model.convolution_shapes(kind)) for kind in kinds)
        rest = one(len(kinds) * model.space.n_alpha, list(model.layout.shapes[cells:]))
    return ByKind([one(model.space.n_alpha, model.convolution_shapes(kind)) for kind in kinds], rest)


def make_weights(params: SearchParams, model: Supernet, hypernetwork: ByKind | None, device: torch.device) -> Weights:
    """Return the weights before training, on their own or generated, as params.method says."""
    settings = SGDSettings(params.momentum, params.weight_decay, params.clip)
    w = model.initial_w(generator(params.search_seed, "weights"))
    if params.method != "hypernetwork":
        return Own(w.to(device), settings)
    h = hypernetwork or make_hypernetwork(params, model)
    phi = h.initial_phi(generator(params.search_seed, "hypernetwork"))
    exploration = Exploration(params.noise, params.antithetic, params.centred)
    weights = Generated(h, phi.to(device), w[h.n_weights :].clone().to(device), settings, exploration)
    if params.initialisation == "zero-response":
        weights.start_without_response(w.to(device))
    return weights


def make_hypergradient(params: SearchParams) -> Any:
    """Return the function (problem, weights, alpha, inner batch, outer batch, rate) -> Hypergradient of the method."""
    p = params

    def look_ahead(weights: Own) -> dict[str, Any]:
        return {"momentum": p.momentum, "velocity": weights.velocity, "weight_decay": p.weight_decay}

    def generated(problem: Any, weights: Generated, alpha: Tensor, inner: Batch, outer: Batch, rate: float):
        w = weights.value(alpha).requires_grad_()
        a = alpha.detach().requires_grad_()
        g, of_alpha = torch.autograd.grad(problem.outer(w, a, outer), (w, a))
        return Hypergradient(of_alpha, weights.response(alpha, g))

    return {
        "hypernetwork": generated,
        "darts-first": lambda problem, weights, a, inner, outer, rate: methods.direct(problem, weights.w, a, outer),
        "darts-second": lambda problem, weights, a, inner, outer, rate: methods.finite_difference(
            problem, weights.w, a, inner, outer, rate, p.epsilon, **look_ahead(weights)
        ),
        "unrolled": lambda problem, weights, a, inner, outer, rate: methods.unrolled(
            problem, weights.w, a, [inner] * p.steps, outer, rate, p.truncate or None, **look_ahead(weights)
        ),
        "neumann": lambda problem, weights, a, inner, outer, rate: methods.neumann(
            problem, weights.w, a, inner, outer, rate, p.terms
        ),
        "conjugate-gradient": lambda problem, weights, a, inner, outer, rate: methods.conjugate_gradient(
            problem, weights.w, a, inner, outer, p.iterations, damping=p.damping
        ),
    }[p.method]


def part_of(found: Hypergradient, part: str) -> Tensor:
    """Return the part of a hypergradient that steps alpha: total, response (report eq. 22) or direct."""
    return {"total": found.total, "response": found.response, "direct": found.direct}[part]


def step_alpha(state: State, gradient: Tensor) -> None:
    """Take one Adam step on alpha and tell the weights how far it moved."""
    if not bool(torch.isfinite(gradient).all()):
        raise FloatingPointError("the hypergradient is not finite")
    before = state.alpha.clone()
    state.alpha.grad = gradient
    state.adam.step()
    state.weights.moved(state.alpha - before)


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Say where a number stopped being finite; what was saved before it is whole."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{where}: {error}; the last checkpoint is from before it") from None


@torch.no_grad()
def validate(problem: Classification, state: State, data: Splits, batch_size: int) -> tuple[float, float]:
    """Return loss and accuracy (per cent) on the validation part: not augmented, batch statistics, no noise."""
    assert data.validation is not None
    w, loss, correct = state.weights.value(state.alpha), 0.0, 0
    for batch in in_order(data.validation, batch_size):
        batch_loss, batch_correct = problem.outcome(w, state.alpha, batch)
        loss, correct = loss + float(batch_loss) * len(batch[1]), correct + int(batch_correct)
    return loss / len(data.validation), 100 * correct / len(data.validation)


@dataclass
class Log:
    """The tables of a run while it goes on."""

    run: Run
    metrics: list[Row]
    hypergradients: list[Row]
    alphas: list[Row]
    timings: list[Row]
    since: float = 0.0

    @classmethod
    def resume(cls, run: Run, state: State) -> "Log":
        """Read the tables and drop what was written after the checkpoint."""
        old = {name: run.table(name).to_dict("records") for name in ("metrics", "hypergradients", "alpha", "timings")}
        before = (state.epoch + 1, state.step)
        steps = [row for row in old["hypergradients"] if (row["epoch"], row["step_in_epoch"]) < before]
        epochs = {name: [row for row in rows if row["epoch"] <= state.epoch] for name, rows in old.items()}
        log = cls(run, epochs["metrics"], steps, epochs["alpha"], epochs["timings"])
        if not log.alphas:
            log._alpha(state, 0)
        return log

    def start_epoch(self) -> None:
        """Start the clock of an epoch."""
        self.since = time.perf_counter()

    def hypergradient(self, state: State, found: Hypergradient, rate: float, steps: int) -> None:
        """Note the norms of both parts for each kind of cell, and what else tells how a search is doing."""
        row: Row = {"step": state.steps_done(steps), "epoch": state.epoch + 1, "step_in_epoch": state.step}
        for name, part in (("direct", found.direct), ("response", found.response), ("total", found.total)):
            row |= {f"{name}_{kind}": float(rows.norm()) for kind, rows in zip(DARTS.kinds, part, strict=True)}
        direct, response = found.direct.flatten(), found.response.flatten()
        row["cosine"] = float(torch.cosine_similarity(direct, response, dim=0))
        row |= entropies(state.alpha)
        if isinstance(state.weights, Generated):
            row |= state.weights.diagnostics(state.alpha, rate)
        edges = found.total.norm(dim=-1)
        row |= {
            f"{kind}_{source}-{node}": float(edges[k, e])
            for k, kind in enumerate(DARTS.kinds)
            for e, (source, node) in enumerate(DARTS.edges)
        }
        self.hypergradients.append(row)

    def write_steps(self) -> None:
        """Write what was noted since the last epoch's end."""
        self.run.write_table("hypergradients", self.hypergradients)

    def end_epoch(self, state: State, rate: float, validation: tuple[float, float]) -> Row:
        """Write all tables and return the row of the epoch."""
        images = state.sums["images"]
        row = {
            "epoch": state.epoch + 1,
            "train_loss": state.sums["loss"] / images,
            "train_accuracy": 100 * state.sums["correct"] / images,
            "validation_loss": validation[0],
            "validation_accuracy": validation[1],
            "learning_rate": rate,
            "skips_normal": skip_count(discretise(state.alpha)),
            **entropies(state.alpha),
        }
        self.metrics.append(row)
        seconds = time.perf_counter() - self.since
        self.timings.append({"epoch": state.epoch + 1, "seconds": seconds, "images_per_second": images / seconds})
        self._alpha(state, state.epoch + 1)
        for name, rows in (("metrics", self.metrics), ("alpha", self.alphas), ("timings", self.timings)):
            self.run.write_table(name, rows)
        self.write_steps()
        return row

    def _alpha(self, state: State, epoch: int) -> None:
        for kind, rows in zip(DARTS.kinds, state.alpha.tolist(), strict=True):
            for (source, node), values in zip(DARTS.edges, rows, strict=True):
                named = dict(zip(DARTS.operations, values, strict=True))
                self.alphas.append({"epoch": epoch, "kind": kind, "source": source, "node": node, **named})


def alpha_at(run: Run, epoch: int | None = None) -> Tensor:
    """Return alpha after an epoch (0 is the start, None the last written), read from a run's alpha.csv."""
    table = run.table("alpha")
    epochs, values = table["epoch"].to_numpy(), table[list(DARTS.operations)].to_numpy()
    return torch.tensor(values[epochs == (epochs.max() if epoch is None else epoch)]).view(DARTS.alpha_shape)


def entropies(alpha: Tensor) -> Row:
    """Return the mean entropy of softmax(alpha) over the edges of each kind, in nats (log 8 = 2.08 at the start)."""
    logs = alpha.detach().double().log_softmax(-1)
    means = (-(logs.exp() * logs).sum(-1).mean(-1)).tolist()
    return {f"entropy_{kind}": mean for kind, mean in zip(DARTS.kinds, means, strict=True)}


def counts(model: Supernet, weights: Weights) -> Row:
    """Return how many weights the supernet has and how many numbers SGD updates in its place."""
    updated = sum(t.numel() for name, t in weights.tensors().items() if "velocity" not in name)
    return {"supernet_weights": model.n_w, "trained_weights": updated}


def save(run: Run, params: SearchParams, state: State, clock: CheckpointClock, keep: bool = False) -> None:
    """Write the checkpoint; the tables were written before it, so that a resumed search finds all its rows."""
    checkpoint.save(run.folder, state.saved(), identity(params), f"epoch-{state.epoch}" if keep else "")
    clock.saved()


def finish(params: SearchParams, run: Run, state: State, model: Supernet) -> None:
    """Write genotype and result. The score is the best validation accuracy, the genotype that of the last epoch."""
    metrics = run.table("metrics")
    best = metrics.loc[metrics["validation_accuracy"].idxmax()]
    genotype = discretise(state.alpha)
    run.write_text("genotype.json", genotype.to_json())
    result = {
        "method": params.method,
        "search_seed": params.search_seed,
        "data": params.data,
        "epochs": params.epochs,
        "best_validation_accuracy": float(best["validation_accuracy"]),
        "best_epoch": int(best["epoch"]),
        "last_validation_accuracy": float(metrics["validation_accuracy"].iloc[-1]),
        "skips_normal": skip_count(genotype),
        "genotype": genotype.model_dump(),
        **counts(model, state.weights),
    }
    run.finish(result)
    if not params.keep_checkpoint:
        checkpoint.prune(run.folder)


def _finish_random(params: SearchParams, run: Run) -> None:
    """Draw a cell instead of searching one: alpha standard normal, so every edge and operation is equally likely."""
    alpha = torch.randn(DARTS.alpha_shape, generator=generator(params.search_seed, "random cell"))
    genotype = discretise(alpha)
    run.write_text("genotype.json", genotype.to_json())
    run.write_provenance(data=params.data)
    plain = {"method": params.method, "search_seed": params.search_seed, "data": params.data}
    run.finish({**plain, "skips_normal": skip_count(genotype), "genotype": genotype.model_dump()})
