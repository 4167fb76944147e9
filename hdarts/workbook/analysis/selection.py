"""Selection of the cell to evaluate among those of several searches (thesis section 4.7)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from hdarts.errors import ParameterError
from hdarts.runs.paths import below_runs
from hdarts.runs.run import read_result
from hdarts.space import Genotype, skip_count


class Candidate(NamedTuple):
    """One finished search: its run, the cells it found, and its best search-validation accuracy in percent."""

    run: str
    genotype: Genotype
    best_validation_accuracy: float
    search_seed: int


@dataclass(frozen=True)
class Selection:
    """The chosen search, and a table with the reason why each search was chosen, kept or disregarded."""

    chosen: Candidate
    table: pd.DataFrame


def candidate(run: str) -> Candidate:
    """Return the finished search in the run folder `run` below `runs/`; raises `ParameterError` for anything else."""
    result = read_result(below_runs(run))
    if result is None:
        raise ParameterError(f"searches: {run} has no result; it is not a finished run")
    try:
        genotype = Genotype.model_validate(result["genotype"])
        return Candidate(run, genotype, float(result["best_validation_accuracy"]), int(result["search_seed"]))
    except (KeyError, TypeError, ValueError):
        raise ParameterError(f"searches: {run} is not a search with a validation accuracy to select by") from None


def select(
    candidates: Sequence[Candidate] | Sequence[tuple[str, Genotype, float, int]],
    *,
    require_skip: bool = True,
    allow_no_skip: bool = False,
) -> Selection:
    """Return the search with the highest search-validation accuracy; of equal ones the one with the lowest seed.

    `require_skip` disregards searches whose normal cell has no skip connection: for the thesis a sign that a cell found
    in a shallow network overfits in a deep one. If that disregards all, `allow_no_skip` takes the best of all instead
    of raising `ParameterError`. A search without a finite accuracy is always disregarded. The test set is not used.

    >>> cells = ["|skip_connect~0|", "|nor_conv_3x3~0|"]
    >>> rest = "+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    >>> skips, none = (Genotype.from_string(cell + rest) for cell in cells)
    >>> select([("seed-2", skips, 88.0, 2), ("seed-20", none, 89.0, 20)]).chosen.run
    'seed-2'
    """
    searches = [Candidate(*candidate) for candidate in candidates]
    if not searches:
        raise ParameterError("there are no searches to select from")
    finite = [search for search in searches if math.isfinite(search.best_validation_accuracy)]
    if not finite:
        raise ParameterError(f"none of the {len(searches)} searches has a finite validation accuracy")
    kept = [search for search in finite if skip_count(search.genotype) > 0] if require_skip else finite
    if not kept and not allow_no_skip:
        raise ParameterError(
            f"require_skip: none of the {len(finite)} searches has a skip connection in its normal cell; "
            "search with more seeds, or set allow_no_skip: true to take the best of them"
        )
    chosen = min(kept or finite, key=lambda search: (-search.best_validation_accuracy, search.search_seed, search.run))
    return Selection(chosen, _table(searches, kept, chosen))


def _table(searches: list[Candidate], kept: list[Candidate], chosen: Candidate) -> pd.DataFrame:
    rows = [
        {
            "run": search.run,
            "search_seed": search.search_seed,
            "best_validation_accuracy": search.best_validation_accuracy,
            "skips_normal": skip_count(search.genotype),
            "kept": search in kept,
            "chosen": search is chosen,
            "why": _why(search, kept, chosen),
        }
        for search in searches
    ]
    return pd.DataFrame(rows)


def _why(search: Candidate, kept: list[Candidate], chosen: Candidate) -> str:
    if search is chosen:
        return "chosen: best validation accuracy" + ("" if kept else " of all, since none has a skip connection")
    if search in kept:
        return "kept: another has a higher validation accuracy, or the same and a lower seed"
    if not math.isfinite(search.best_validation_accuracy):
        return f"disregarded: validation accuracy is {search.best_validation_accuracy}"
    return "disregarded: no skip connection in the normal cell"
