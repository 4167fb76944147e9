"""Notebook 10: how far the weights that a supernet has for a cell are from the cell's own, and how they rank cells."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from hdarts import search as s
from hdarts.data import Batches, Splits
from hdarts.data.nasbench201_table import BenchmarkTable, table_path
from hdarts.params import SearchParams, check, notebook_defaults
from hdarts.params.schedule import cosine
from hdarts.runs import checkpoint
from hdarts.runs.paths import below_runs, notebooks_folder
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run, read_table
from hdarts.search.ranking import random_cell
from hdarts.search.start import resumed
from hdarts.search.state import State
from hdarts.search.validation import accuracy, discrete
from hdarts.search.weights import Classification, LearnedWeights, SGDSettings
from hdarts.space import DARTS, NASBENCH201, Genotype, one_hot_alpha
from hdarts.supernet import Supernet
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.relatives import short
from hdarts.workbook.analysis.runs import INTERFERENCE, finished_runs
from hdarts.workbook.analysis.statistics import rank_correlation

SHARED, OWN, RATE = "shared weights", "own optima", 0.025
WIDTH = 16  # of the global hypernetworks, half of the 30 alphas, as in hyperDARTS-2
BATCH = 250  # images in a batch of a measurement
GENERATED: Row = {"method": "hypernetwork", "activation": "sigmoid", "learning_rate": 0.05}
AT_CELLS: Row = GENERATED | {"hypernetwork_input": "softmax"}
SOURCES: dict[str, Row] = {  # what trains the weights
    SHARED: {"method": "shared-weights", "candidates": 1, "learning_rate": RATE},
    "trajectory, w at its alpha": GENERATED | {"hypernetwork": "linear"},
    "trajectory, w at the cell": AT_CELLS | {"hypernetwork": "linear"},
    "global MLP": AT_CELLS | {"hypernetwork": "mlp", "hidden_size": WIDTH},  # per convolution: hyperDARTS-2
    "global MLP, shared": AT_CELLS | {"hypernetwork": "mlp", "hidden_size": WIDTH, "hidden": "shared"},
    "global graph": AT_CELLS | {"hypernetwork": "graph", "hidden_size": WIDTH},
    "global low rank": AT_CELLS | {"hypernetwork": "low-rank", "rank": WIDTH},
}
FORMS: dict[str, Row] = {  # of global hypernetworks: the kind, and the parameter of its capacity
    "MLP": {"hypernetwork": "mlp", "capacity": "hidden_size"},
    "MLP, shared": {"hypernetwork": "mlp", "hidden": "shared", "capacity": "hidden_size"},
    "graph": {"hypernetwork": "graph", "capacity": "hidden_size"},
    "low rank": {"hypernetwork": "low-rank", "capacity": "rank"},
}
GPU, GPU_GIB = "11 GiB: a GTX 1080 Ti", 11.0  # the thesis's, section 5.6.1.1
PER_WEIGHT = 8  # bytes: a weight and its momentum; the gradient of an output layer stays in factors


def changes_of(source: str, epochs: int) -> Row:
    """Return the parameters of the search that trains the weights of a source, for so many epochs."""
    return SOURCES[source] | _common(source, epochs)


def _common(source: str, epochs: int) -> Row:
    plain: Row = {"space": "nasbench201", "crop_padding": 0, "alpha_learning_rate": 0.003, "log_every": 10**6}
    learns_globally = {"global_epochs": epochs, "global_scale": 5.0, "candidates": 1}
    return plain | {"epochs": epochs} | (learns_globally if source.startswith("global") else {})


@dataclass(frozen=True)
class Cells:
    """Cells of NAS-Bench-201 as discrete networks of one supernet, with the images of both levels."""

    problem: Classification
    data: Splits
    cells: Sequence[Genotype]
    batch_size: int
    seed: int
    settings = SGDSettings(momentum=0.9, decay=3e-4, clip=5.0)

    def losses(self, cell: Genotype, w: Tensor) -> Row:
        """Return inner and outer loss and outer accuracy (per cent) of a cell alone with weights `w`, all images."""
        problem = discrete(self.problem, cell, w)
        inner, _ = accuracy(problem, w, one_hot_alpha(cell), self.data.train, BATCH)
        outer, correct = accuracy(problem, w, one_hot_alpha(cell), self.data.validation, BATCH)
        return {"inner_loss": inner, "outer_loss": outer, "outer_accuracy": correct}

    def tuned(self, cell: Genotype, w: Tensor, steps: int, rate: float, last: float) -> Iterator[Tensor]:
        """Yield `w`, and it after each of `steps` steps of SGD on the inner loss of the cell alone.

        The rate is a cosine from `rate` to `last`. Cells and starts have the same batches.
        """
        alone, alpha = discrete(self.problem, cell, w), one_hot_alpha(cell)
        weights = LearnedWeights(w.clone(), self.settings)
        batches = Batches(self.data.train, self.batch_size).repeated(self.seed, "fine-tuning", 0, 0)
        yield weights.w
        for step, batch in zip(range(steps), batches, strict=False):
            weights.step(alone, alpha, batch, cosine(rate, last, step, steps), torch.zeros(()))
            yield weights.w


def train(folder: str, source: str, changes: Row) -> Run:
    """Return the finished search that trains the weights of a source; its folder is in that of the notebook's run."""
    return short(f"{folder}/{''.join(c if c.isalnum() else '-' for c in source)}", changes)


def loaded(run: Run) -> tuple[Classification, State, Splits]:
    """Return problem, state and images of a finished search."""
    params, device = run.params, torch.device("cpu")
    assert isinstance(params, SearchParams)
    data = s.load_splits(params, device)
    return *resumed(params, checkpoint.read(run.folder / checkpoint.NEWEST), data, device), data


def weights_of(run: Run) -> Callable[[Genotype], Tensor]:
    """Return the weights of each cell: at its one-hot alpha if a hypernetwork can take that, else at the search's."""
    _, state, _ = loaded(run)
    at_the_cell = run.params.hypernetwork_input == "softmax"  # type: ignore[attr-defined]
    return lambda cell: state.weights.value(one_hot_alpha(cell) if at_the_cell else state.alpha).clone()


def drawn_cells(run: Run, number: int, seed: int) -> Cells:
    """Return `number` random cells, a function of the seed, for the supernet and the images of a search."""
    problem, _, data = loaded(run)
    cells = [random_cell(NASBENCH201, seed, "interference", n) for n in range(number)]
    return Cells(problem, data, cells, run.params.batch_size, seed)  # type: ignore[attr-defined]


def own_optima(cells: Cells, shared: Run, epochs: int) -> pd.DataFrame:
    """Return the losses of each cell after training it alone, from new weights and from the shared ones.

    Columns: number, cell, start (new | shared), and those of `Cells.losses`. The row with the smaller inner loss is
    the cell's own optimum, as near as so many epochs come.
    """
    assert cells.data.train is not None
    steps = epochs * len(Batches(cells.data.train, cells.batch_size))
    new = cells.problem.supernet.initial_w(generator(cells.seed, "weights of a cell alone"))
    starts = {"new": lambda cell: new, "shared": weights_of(shared)}
    rows = []
    for number, cell in enumerate(cells.cells):
        for start, weights in starts.items():
            *_, end = cells.tuned(cell, weights(cell), steps, 2 * RATE, 0.0)
            rows.append({"number": number, "cell": cell.to_string(), "start": start, **cells.losses(cell, end)})
    return pd.DataFrame(rows)


def best(optima: pd.DataFrame) -> Any:
    """Return the row with the smaller inner loss of each cell."""
    return optima.sort_values("inner_loss", kind="stable").drop_duplicates("number").sort_values("number")


def uncertainty(optima: pd.DataFrame) -> float:
    """Return the mean distance of the inner losses of the two trainings of a cell."""
    both: Any = optima.pivot(index="number", columns="start", values="inner_loss")
    return float((both["new"] - both["shared"]).abs().mean())


def over_tuning(cells: Cells, source: str, run: Run, steps: Iterable[int] = ()) -> pd.DataFrame:
    """Return the losses of each cell with the weights of a source, after 0 and more steps of training it alone.

    Columns: source, number, cell, steps, and those of `Cells.losses`.
    """
    weights, marks, rows = weights_of(run), {0, *steps}, []
    for number, cell in enumerate(cells.cells):
        for step, w in enumerate(cells.tuned(cell, weights(cell), max(marks), RATE, RATE)):
            if step in marks:
                plain = {"source": source, "number": number, "cell": cell.to_string(), "steps": step}
                rows.append(plain | cells.losses(cell, w))
    return pd.DataFrame(rows)


def excess(rows: pd.DataFrame, optima: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with `inner_excess` and `outer_excess`: their losses minus those of the cell's own optimum."""
    own: Any = best(optima).set_index("number")
    more = {f"{k}_excess": rows[f"{k}_loss"] - rows["number"].map(own[f"{k}_loss"]) for k in ("inner", "outer")}
    return rows.assign(**more)


def mean_excess(losses: pd.DataFrame) -> pd.DataFrame:
    """Return source, steps, level (inner | outer) and `excess`, mean over the cells."""
    means: Any = losses.groupby(["source", "steps"], sort=False)[["inner_excess", "outer_excess"]].mean()
    long = means.rename(columns=lambda name: name.removesuffix("_excess")).rename_axis("level", axis=1).stack()
    return long.rename("excess").reset_index()


def rankings(losses: pd.DataFrame, optima: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau of the ranking of cells by outer accuracy: source, steps, of, tau, low, high, p, n.

    `of` what: "own accuracy", that of the cells' own optima in the same small network, and "true accuracy", that of the
    table after 200 epochs, if it is installed. Rows of source "own optima" rank by the former. Intervals: Fisher's z.
    """
    own = best(optima).assign(source=OWN, steps=0)
    truths = {"own accuracy": dict(zip(own["number"], own["outer_accuracy"], strict=True))}
    if table_path() is not None:
        table = BenchmarkTable.read()
        true = [table.lookup(cell)["cifar10_test"] for cell in own["cell"]]
        truths["true accuracy"] = dict(zip(own["number"], true, strict=True))
    found, every = [], pd.concat([losses, own])
    groups: Any = every.groupby(["source", "steps"], sort=False)
    for (source, steps), group in groups:
        for of, truth in truths.items():
            if (source, of) != (OWN, "own accuracy"):
                tau = rank_correlation(group["outer_accuracy"], group["number"].map(truth), "kendall")
                numbers = {"tau": tau.value, "low": tau.low, "high": tau.high, "p": tau.p, "n": tau.n}
                found.append({"source": source, "steps": steps, "of": of, **numbers})
    return pd.DataFrame(found)


def _of_size(kind: Row, size: int) -> Row:
    """Return the parameters of a form of hypernetwork with this width or rank."""
    return {name: value for name, value in kind.items() if name != "capacity"} | {kind["capacity"]: size}


def over_capacity(
    folder: str, cells: Cells, optima: pd.DataFrame, sizes: Iterable[int], epochs: int, changes: Row
) -> pd.DataFrame:
    """Return the excess of global hypernetworks: form, width_or_rank, weights, kilobytes, excess (inner), outer."""
    rows = []
    for form, kind in FORMS.items():
        for size in sorted({WIDTH, *sizes}):
            source = f"global {form}" if size == WIDTH else f"global {form} {size}"
            of_form = AT_CELLS | _of_size(kind, size)
            run = train(folder, source, of_form | _common(source, epochs) | changes)
            means: Any = excess(over_tuning(cells, source, run), optima)[["inner_excess", "outer_excess"]].mean()
            n = loaded(run)[1].weights.hypernetwork.n_phi  # type: ignore[attr-defined]
            row = {"form": form, "width_or_rank": size, "weights": n, "kilobytes": PER_WEIGHT * n / 1e3}
            rows.append({**row, "excess": means["inner_excess"], "outer": means["outer_excess"]})
    return pd.DataFrame(rows)


def of_all_seeds(study: str, table: str) -> pd.DataFrame:
    """Return a table of notebook 10, from all its finished runs in a study, with their `seed`; empty if none."""
    runs = finished_runs(study, INTERFERENCE)
    tables = [read_table(below_runs(row["run"]), table).assign(seed=row["params"]["seed"]) for row in runs]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def sources(means: pd.DataFrame, capacity: pd.DataFrame, gap: float) -> pd.DataFrame:
    """Return what claims are tested on: source, form, weights, excess (inner, before tuning), and the `uncertainty`."""
    start = means.loc[(means["steps"] == 0) & (means["level"] == "inner"), ["source", "excess"]]
    return pd.concat([start, capacity[["form", "weights", "excess"]]]).assign(uncertainty=gap)


def at_thesis_size(sizes: Iterable[int]) -> pd.DataFrame:
    """Return the memory of hypernetworks for hyperDARTS's supernet (16 channels, 8 cells): form, width_or_rank, gib.

    Counted, not allocated: `weights` and momentum in float32, without the gradient and the images.
    """
    defaults = notebook_defaults(notebooks_folder() / "03_search.ipynb")
    supernet, rows = Supernet(DARTS, 16, 8, classes=10), []
    for form, kind in FORMS.items():
        for size in sizes:
            of_form = GENERATED | _of_size(kind, size)
            n = s.make_hypernetwork(check(SearchParams, {**defaults, **of_form}), supernet).n_phi
            rows.append({"form": form, "width_or_rank": size, "weights": n, "gib": PER_WEIGHT * n / 2**30})
    return pd.DataFrame(rows)
