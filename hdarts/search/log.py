"""The tables that a search writes as it runs, and how to read `alpha` back from them."""

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hdarts.bilevel import Hypergradient
from hdarts.errors import ParameterError
from hdarts.params import SearchParams
from hdarts.runs.run import Run
from hdarts.runs.tensorboard import Write, no_events
from hdarts.search.parametrisation import Parametrisation
from hdarts.search.relaxation import Relaxation
from hdarts.search.state import State
from hdarts.search.weights import GeneratedWeights
from hdarts.space import SPACES, SearchSpace, skip_count

Row = dict[str, Any]
PLACE = ("epoch", "kind", "source", "node")  # first columns of alpha.csv, followed by one per operation
ADVICE = "restore it, or remove the folder to start this run again from the beginning"


@dataclass
class Log:
    """The tables of a running search, by name."""

    run: Run
    tables: dict[str, list[Row]]
    space: SearchSpace
    events: Write = no_events
    since: float = 0.0
    warn_at: float = 10.0  # times the learning rate

    @classmethod
    def resume(cls, run: Run, state: State, events: Write = no_events) -> "Log":
        """Read the tables and drop the rows after the checkpoint; `events` also receives the rows of metrics."""

        def done(row: Row) -> bool:
            return row["epoch"] <= state.epoch

        def step_done(row: Row) -> bool:
            return (row["epoch"], row["step_in_epoch"]) < (state.epoch + 1, state.step)

        def begun(row: Row) -> bool:
            return row["epoch"] <= state.epoch + (state.step > 0)

        kept = {"metrics": done, "alpha": done, "timings": done, "hypergradients": step_done}
        if getattr(run.params, "selection", "") == "perturbation":
            kept["perturbation"] = begun
        if getattr(run.params, "decay_growth", 0.0):
            kept["rollbacks"] = lambda row: row["rollback"] <= state.rollbacks
        log = cls(run, {name: _kept(run, name, keep) for name, keep in kept.items()}, state.space, events)
        if [row["epoch"] for row in log.tables["metrics"]] != list(range(1, state.epoch + 1)):
            raise ParameterError(f"{run.folder / 'metrics.csv'}: lacks epochs before the checkpoint; {ADVICE}")
        events(log.tables["metrics"])
        if not log.tables["alpha"]:  # now, because in a resumed first epoch alpha is no longer the initial one
            log.alpha(state, 0)
            log.write("alpha")
        return log

    def write(self, *names: str) -> None:
        for name in names:
            self.run.write_table(name, self.tables[name])

    def return_to(self, epoch: int, rollback: int, decay: float) -> None:
        """Return to an epoch: later rows of metrics move to rollbacks.csv, those of the other tables are dropped."""
        again = [row for row in self.tables["metrics"] if row["epoch"] > epoch]
        self.tables["rollbacks"] += [{"rollback": rollback, "weight_decay": decay, **row} for row in again]
        self.write("rollbacks")
        for name in ("metrics", "alpha", "timings", "hypergradients"):
            self.tables[name] = [row for row in self.tables[name] if row["epoch"] <= epoch]

    def start_measuring(self) -> None:
        """Note the time: measurements are no cost of the search."""
        self.since = time.perf_counter()

    def hypergradient(self, state: State, hypergradient: Hypergradient, rate: float, steps: int) -> None:
        """Record the norms of both parts for each kind of cell, their cosine, entropies, and diagnostics."""
        row: Row = {"step": state.steps_done(steps), "epoch": state.epoch + 1, "step_in_epoch": state.step}
        parts = {name: getattr(hypergradient, name) for name in ("direct", "response", "total")}
        cosine = torch.cosine_similarity(parts["direct"].flatten(), parts["response"].flatten(), dim=0)
        norms = torch.stack([*(rows.norm() for part in parts.values() for rows in part), cosine])
        edges = parts["total"].norm(dim=-1).flatten()
        values = torch.cat([norms, edges]).tolist()  # read at once: on a GPU the host waits
        names = [f"{name}_{kind}" for name in parts for kind in self.space.kinds]
        row |= dict(zip([*names, "cosine"], values[: len(norms)], strict=True))
        row |= entropies(state.mean_weights(), self.space)
        if isinstance(state.weights, GeneratedWeights):
            row |= state.weights.diagnostics(state.alpha, rate)
            self._warn(state, row["effective_step"])
        named = [f"{kind}_{source}-{node}" for kind in self.space.kinds for source, node in self.space.edges]
        row |= dict(zip(named, values[len(norms) :], strict=True))
        self.tables["hypergradients"].append(row)

    def _warn(self, state: State, step: float) -> None:
        """Warn that the step of a hypernetwork grows with alpha, at `warn_at` and at each doubling after it.

        Generated weights move by lr (1 + ||alpha||^2) along their gradient, with alpha of their kind of cell. At
        curvature kappa this is stable below 2 (1 + momentum) / kappa: a learning rate chosen at alpha = 0 becomes too
        large. Centred hypernetworks have input 0, so their step remains the learning rate.
        """
        times = step / getattr(self.run.params, "learning_rate", math.inf)
        if times >= self.warn_at:
            self.warn_at = 2 * times
            warnings.warn(
                f"{state.position}: a step of the hypernetwork, lr (1 + ||input||^2) = {step:.3g}, is {times:.0f} "
                "times the learning rate and may soon explode; lower alpha_learning_rate or learning_rate, or set "
                "centred",
                RuntimeWarning,
                stacklevel=2,
            )

    def end_epoch(self, state: State, rate: float, measured: Row) -> Row:
        """Write all tables and return the row of the epoch, with what was `measured` at its end (search.validation).

        `alpha` has been recorded before: what is measured may depend on it.
        """
        loss, correct, images = state.sums.tolist()
        row = {
            "epoch": state.epoch + 1,
            "train_loss": loss / images,
            "train_accuracy": 100 * correct / images,
            **measured,
            "learning_rate": rate,
            "skips_normal": skip_count(state.cell()),
            **entropies(state.mean_weights(), self.space),
        }
        self.tables["metrics"].append(row)
        self._time(state.epoch + 1, state.seconds, images / state.seconds)
        self.write(*self.tables)
        self.events(self.tables["metrics"])
        return row

    def ranking(self, epoch: int, rows: list[Row]) -> None:
        """Write the ranking of candidates, and its time as one more epoch after the last."""
        self.run.write_table("ranking", rows)
        self._time(epoch, 0.0, math.nan)
        self.write("timings")

    def _time(self, epoch: int, seconds: float, speed: float) -> None:
        times = {"seconds": seconds, "measuring_seconds": time.perf_counter() - self.since, "images_per_second": speed}
        self.tables["timings"].append({"epoch": epoch, **times})

    def alpha(self, state: State, epoch: int) -> None:
        """Record alpha as it is after an epoch (0: at the start), with -inf for operations that are pruned."""
        for kind, rows in zip(self.space.kinds, state.relaxation.masked(state.alpha).tolist(), strict=True):
            for (source, node), values in zip(self.space.edges, rows, strict=True):
                named = dict(zip(state.relaxation.columns, values, strict=True))
                place = dict(zip(PLACE, (epoch, kind, source, node), strict=True))
                self.tables["alpha"].append(place | named)


def _kept(run: Run, name: str, keep: Callable[[Row], bool]) -> list[Row]:
    try:
        return [row for row in run.table(name).to_dict("records") if keep(row)]
    except (KeyError, TypeError):
        raise ParameterError(f"{run.folder / name}.csv: is not the table that this search wrote; {ADVICE}") from None


def alpha_at(run: Run, epoch: int | None = None) -> Tensor:
    """Return alpha after an epoch (0: the initial one; None: the last recorded), read from a run's alpha.csv."""
    table = run.table("alpha")
    table = table[table["epoch"] == (table["epoch"].max() if epoch is None else epoch)]
    values = table.drop(columns=list(PLACE)).dropna(axis=1).to_numpy()  # a stage may have columns that others lack
    return torch.tensor(values).view(len(set(table["kind"])), -1, values.shape[1])


def weights_at(
    run: Run, epoch: int | None = None, strength: bool = False, parametrisation: Parametrisation | None = None
) -> Tensor:
    """Return the mean mixture weights after an epoch (as `alpha_at`), by the parametrisation of the run's stage.

    With `strength`, return the weights by which cells are derived, which for edge-pairs are others. `parametrisation`
    is the user-defined one that the search was given, if any.
    """
    assert isinstance(run.params, SearchParams)
    alpha = alpha_at(run, epoch)
    space, number = SPACES[run.params.space], run.table("alpha")["epoch"].max().item() if epoch is None else epoch
    relaxation = Relaxation.after(run.params, space, number, parametrisation)
    return relaxation.strength(alpha) if strength else relaxation.mean(alpha)


def entropies(weights: Tensor, space: SearchSpace) -> Row:
    """Return the mean entropy of the mixture weights over the edges of each kind, in nats; rows are divided by sums.

    Initially it is the logarithm of the number of operations: 2.08 in DARTS, 1.61 in NAS-Bench-201.
    """
    rows = weights.detach().cpu().double()
    rows = rows / rows.sum(-1, keepdim=True)
    means = torch.special.entr(rows).sum(-1).mean(-1).tolist()
    return {f"entropy_{kind}": mean for kind, mean in zip(space.kinds, means, strict=True)}
