"""The state of a search after an epoch: its problem, weights and alpha, read from a checkpoint."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import Centred, Reparametrised
from hdarts.data import Splits
from hdarts.errors import ParameterError
from hdarts.params import HypergradientParams, SearchParams, check, identity, read_yaml, recorded
from hdarts.runs import checkpoint
from hdarts.runs.device import use_machine
from hdarts.runs.paths import below_runs, with_defaults
from hdarts.runs.run import Run
from hdarts.search import batches, load_splits, search
from hdarts.search.start import resumed
from hdarts.search.weights import Batch, Classification, GeneratedWeights, Weights
from hdarts.space import SPACES, SearchSpace


@dataclass(frozen=True)
class Snapshot:
    """The state of a search after `epoch`. `problem` is that of the real supernet; w has shape (n_w,)."""

    epoch: int
    params: SearchParams
    data: Splits
    problem: Classification
    weights: Weights
    alpha: Tensor

    @property
    def w(self) -> Tensor:
        """Weights of the supernet, generated ones without noise."""
        return self.weights.value(self.alpha)

    @property
    def space(self) -> SearchSpace:
        """The search space."""
        return SPACES[self.params.space]

    def composed(self) -> tuple[Reparametrised, Tensor] | None:
        """Return the problem in u = [phi | rest] and u itself; None if the weights are learned directly."""
        if not isinstance(self.weights, GeneratedWeights):
            return None
        h: Any = self.weights.hypernetwork
        if self.weights.exploration.centred:
            h = Centred(h, self.alpha)
        u = torch.cat([self.weights.phi, self.weights.rest])
        return Reparametrised(self.problem, h, len(self.weights.rest)), u

    def batches(self, level: str, size: int, count: int, seed: int) -> list[Batch]:
        """Return `count` batches of `size` images of a level, `inner` or `outer`, augmented as in the search.

        They depend on (seed, level, size) only. Raises ParameterError for more images than the level has.
        """
        inner, outer = batches(self.params.model_copy(update={"batch_size": size, "drop_last": True}), self.data)
        loader = {"inner": inner, "outer": outer}[level]
        purpose = f"microscope {level}"  # changing this name would draw other batches
        epochs = (loader.epoch(seed, purpose, epoch) for epoch in itertools.count())
        return list(itertools.islice(itertools.chain.from_iterable(epochs), count))


def read_search(name: str) -> Run:
    """Return the run `name` of a search; raises ParameterError if there is none or it drew a random cell."""
    folder = below_runs(name)
    if not (folder / "params.yaml").is_file():
        raise ParameterError(f"parameter `search` = {name!r}: there is no such run folder")
    params = recorded(SearchParams, read_yaml(folder / "params.yaml"))
    if params.method == "random":
        raise ParameterError(f"parameter `search` = {name!r}: a random cell has no weights to examine")
    return Run(folder, params)


def short_search(name: str, changes: Mapping[str, Any], base: SearchParams | None = None) -> Run:
    """Return a finished search in the run folder `name`: `base` (None: notebook 03's defaults) with `changes`."""
    run = Run.open(with_defaults(SearchParams, {**(base.model_dump() if base else {}), **changes, "run": name}))
    for _ in search(run.params, run):  # type: ignore[arg-type]
        pass
    return run


def snapshots(run: Run, params: HypergradientParams) -> Iterator[Snapshot]:
    """Yield the snapshots of a search at `params.epochs` ([]: all that were kept).

    For a search that kept none, this is its last checkpoint. Raises ParameterError if an epoch was not kept.
    """
    device = use_machine(params)
    searched = check(SearchParams, run.params.model_dump())
    files = _chosen(run, params.epochs)
    data = load_splits(searched, device)
    for file in files:
        problem, state = resumed(searched, checkpoint.read(file, identity(searched)), data, device)
        yield Snapshot(state.epoch, searched, data, replace(problem, precision="float32"), state.weights, state.alpha)


def _chosen(run: Run, epochs: Iterable[int]) -> list[Path]:
    kept = {int(path.stem.rpartition("-")[2]): path for path in run.folder.glob("checkpoint.epoch-*.pt")}
    if missing := [epoch for epoch in epochs if epoch not in kept]:
        known = ", ".join(map(str, sorted(kept))) or "none"
        raise ParameterError(f"parameter `epochs` = {missing[0]}: {run.name} kept no snapshot of it (kept: {known})")
    if kept:
        return [kept[epoch] for epoch in sorted(epochs or kept)]
    if (run.folder / checkpoint.NEWEST).is_file():
        return [run.folder / checkpoint.NEWEST]
    raise ParameterError(f"{run.name} has no checkpoint left; search with keep_epochs, the epochs to examine")
