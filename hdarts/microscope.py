"""What notebook 04 computes: the hypergradients of a real supernet at a snapshot of a search, method against method.

The reference is a long unrolling: T SGD steps from the snapshot's weights on a fixed sequence of batches,
back-propagated through all of them. It answers "what if training went on for T steps", not "at the minimum".
"""

import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hdarts import checkpoint
from hdarts import hypergradient as methods
from hdarts import search as s
from hdarts.bilevel import Hypergradient
from hdarts.data import Batches
from hdarts.params import ParameterError, SearchParams, check, read_yaml
from hdarts.records import below_runs
from hdarts.search.state import State
from hdarts.weights import Classification


class Snapshot:
    """A search as it was after `epoch`: its problem, weights and alpha."""

    def __init__(self, params: SearchParams, saved: dict[str, Any]):
        self.params, self.epoch = params, saved["epoch"]
        device = torch.device("cpu")
        self.data = s.load_splits(params, device)
        self.model = s.make_supernet(params, self.data)
        self.problem = Classification(self.model)
        state = State.fresh(params, self.model, None, device)
        state.restore(saved)
        self.alpha, self.weights = state.alpha, state.weights
        self.w = self.weights.value(self.alpha)


def snapshots(run: str) -> Iterator[Snapshot]:
    """Yield the snapshots of a search (its `keep_epochs`, else its last checkpoint); none is a `ParameterError`."""
    folder = below_runs(run)
    params = check(SearchParams, read_yaml(folder / "params.yaml"))
    kept = sorted(folder.glob("checkpoint.epoch-*.pt"), key=_epoch) or sorted(folder.glob("checkpoint.pt"))
    if not kept:
        raise ParameterError(f"search: {run} kept no checkpoint; search with keep_epochs or keep_checkpoint: true")
    yield from (Snapshot(params, checkpoint.read(path)) for path in kept)


def _epoch(path: Path) -> int:
    return int(path.stem.rsplit("-", 1)[1])


def measure(snapshot: Snapshot, seed: int, batch_size: int, reference_steps: int, step: float) -> pd.DataFrame:
    """Return a row a method: norms of both parts, cosine and relative error of the total to the reference, cost.

    `half the reference` is the same unrolling with T / 2 steps: how far it is from the reference is the reference's
    own uncertainty. `gradients` counts gradient evaluations, a Hessian-vector product as two.
    """
    problem, w, alpha, total = snapshot.problem, snapshot.w, snapshot.alpha, reference_steps
    train, validation = snapshot.data.train, snapshot.data.validation
    assert validation is not None
    stream = Batches(train, batch_size).endless(seed, "microscope inner")
    inner = [next(stream) for _ in range(total)]
    outer = next(iter(Batches(validation, batch_size).epoch(seed, "microscope outer", 0)))

    def own() -> Hypergradient:
        return s.make_hypergradient(snapshot.params)(problem, snapshot.weights, alpha, inner[0], outer, step)

    half = total // 2
    tried: dict[str, tuple[int, Callable[[], Hypergradient]]] = {
        "reference": (1 + 3 * total, lambda: methods.unrolled(problem, w, alpha, inner, outer, step)),
        "half the reference": (1 + 3 * half, lambda: methods.unrolled(problem, w, alpha, inner[:half], outer, step)),
        "first order": (1, lambda: methods.direct(problem, w, alpha, outer)),
        "DARTS (finite difference)": (
            4,
            lambda: methods.finite_difference(problem, w, alpha, inner[0], outer, step),
        ),
        "one step, exact": (4, lambda: methods.unrolled(problem, w, alpha, inner[:1], outer, step)),
        "Neumann, 3 terms": (7, lambda: methods.neumann(problem, w, alpha, inner[0], outer, step, 3)),
        "conjugate gradient": (
            7,
            lambda: methods.conjugate_gradient(problem, w, alpha, inner[0], outer, 3, damping=1 / step),
        ),
    }
    if snapshot.params.method == "hypernetwork":
        tried["hypernetwork"] = (1, own)
    found = {name: (gradients, *_timed(run)) for name, (gradients, run) in tried.items()}
    truth = found["reference"][1].total.flatten()
    rows = [{"epoch": snapshot.epoch, "method": name, **_row(truth, *one)} for name, one in found.items()]
    return pd.DataFrame(rows)


def _timed(run: Callable[[], Hypergradient]) -> tuple[Hypergradient, float, str]:
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", methods.HypergradientWarning)
        found = run()
    return found, time.perf_counter() - begin, "; ".join(str(warning.message) for warning in caught)


def _row(truth: Tensor, gradients: int, found: Hypergradient, seconds: float, warning: str) -> dict[str, Any]:
    total = found.total.flatten()
    return {
        "direct": float(found.direct.norm()),
        "response": float(found.response.norm()),
        "cosine": float(torch.cosine_similarity(total, truth, dim=0)),
        "relative_error": float((total - truth).norm() / truth.norm()),
        "seconds": seconds,
        "gradients": gradients,
        "warning": warning,
    }


def over_epsilon(snapshot: Snapshot, seed: int, batch_size: int, step: float) -> pd.DataFrame:
    """Return the error of DARTS's finite-difference response against the exact one-step response over epsilon, float64.

    ReLU and max pooling have kinks. Automatic differentiation takes the second derivative between them; a finite
    difference whose step crosses some sees another function. Only once epsilon is so small that no kink is crossed can
    the two agree, which may be far below DARTS's 0.01 and below what float32 resolves.
    """
    assert snapshot.data.validation is not None
    parts = (Batches(part, batch_size, dtype=torch.float64) for part in (snapshot.data.train, snapshot.data.validation))
    inner, outer = (next(iter(part.epoch(seed, "epsilon", 0))) for part in parts)
    problem, w, alpha, rows = snapshot.problem, snapshot.w.double(), snapshot.alpha.double(), []
    truth = methods.unrolled(problem, w, alpha, [inner], outer, step).response
    for epsilon in (1e-1, 1e-2, 1e-3, 1e-5, 1e-7):
        response = methods.finite_difference(problem, w, alpha, inner, outer, step, epsilon).response
        error = float((response - truth).norm() / truth.norm())
        cosine = float(torch.cosine_similarity(response.flatten(), truth.flatten(), dim=0))
        rows.append({"epsilon": epsilon, "what": f"epoch {snapshot.epoch}", "relative_error": error, "cosine": cosine})
    return pd.DataFrame(rows)


def over_batch_size(snapshot: Snapshot, seed: int, sizes: list[int], steps: int = 3) -> pd.DataFrame:
    """Return the mean magnitude of the 8 hypergradients of one edge over the batch size (report figure 32).

    The report varies model and batch size together; here the model is one snapshot. Values of `steps` single batches.
    """
    assert snapshot.data.validation is not None
    rows = []
    for size in sizes:
        stream = Batches(snapshot.data.validation, size).endless(seed, "figure 32")
        for step in range(steps):
            found = methods.direct(snapshot.problem, snapshot.w, snapshot.alpha, next(stream))
            magnitude = float(found.direct[0, 0].abs().mean())
            rows.append({"batch size": size, "step": f"step {step}", "magnitude": magnitude})
    return pd.DataFrame(rows)
