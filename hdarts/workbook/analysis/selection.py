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
from hdarts.workbook.analysis.size import Size, known_size


class Candidate(NamedTuple):
    """One finished search: run, the cells it found, its best search-validation accuracy (%), the size of its network.

    The size is None where it is not known: for custom operations.
    """

    run: str
    genotype: Genotype
    best_validation_accuracy: float
    search_seed: int
    size: Size | None = None


@dataclass(frozen=True)
class Selection:
    """The chosen search, and a table with the reason why each search was chosen, kept or disregarded."""

    chosen: Candidate
    table: pd.DataFrame


def candidate(run: str, channels: int = 0, layers: int = 0) -> Candidate:
    """Return the finished search in the run folder `run` below `runs/`; raises `ParameterError` for anything else.

    Its size is that of a network of so many channels and layers (see `size.size_of`).
    """
    result = read_result(below_runs(run))
    if result is None:
        raise ParameterError(f"searches: {run} has no result; it is not a finished run")
    try:
        genotype = Genotype.model_validate(result["genotype"])
        accuracy, seed = float(result["best_validation_accuracy"]), int(result["search_seed"])
    except (KeyError, TypeError, ValueError):
        raise ParameterError(f"searches: {run} is not a search with a validation accuracy to select by") from None
    return Candidate(run, genotype, accuracy, seed, known_size(run, genotype, channels, layers))


def select(
    candidates: Sequence[Candidate] | Sequence[tuple[str, Genotype, float, int]],
    *,
    require_skip: bool = True,
    allow_no_skip: bool = False,
    limits: Size | None = None,
) -> Selection:
    """Return the search with the highest search-validation accuracy; of equal ones the one with the lowest seed.

    `limits` disregards cells whose network is larger, in parameters or in multiply-adds; 0 is no limit. `require_skip`
    disregards searches whose normal cell has no skip connection: for the thesis a sign that a cell found in a shallow
    network overfits in a deep one. If that disregards all, `allow_no_skip` takes the best of all instead of raising
    `ParameterError`. A search without a finite accuracy is always disregarded. The test set is not used.

    >>> cells = ["|skip_connect~0|", "|nor_conv_3x3~0|"]
    >>> rest = "+|none~0|none~1|+|none~0|none~1|nor_conv_3x3~2|"
    >>> skips, none = (Genotype.from_string(cell + rest) for cell in cells)
    >>> select([("seed-2", skips, 88.0, 2), ("seed-20", none, 89.0, 20)]).chosen.run
    'seed-2'
    """
    searches = [one if isinstance(one, Candidate) else Candidate(*one) for one in candidates]
    if not searches:
        raise ParameterError("there are no searches to select from")
    finite = [search for search in searches if math.isfinite(search.best_validation_accuracy)]
    if not finite:
        raise ParameterError(f"none of the {len(searches)} searches has a finite validation accuracy")
    fitting = [search for search in finite if not _too_large(search, limits)]
    if not fitting:
        least = min(finite, key=lambda search: search.size or (0, 0))
        raise ParameterError(f"the network of every cell is too large; of the smallest: {_too_large(least, limits)}")
    kept = [search for search in fitting if skip_count(search.genotype) > 0] if require_skip else fitting
    if not kept and not allow_no_skip:
        raise ParameterError(
            f"require_skip: none of the {len(fitting)} searches has a skip connection in its normal cell; "
            "search with more seeds, or set allow_no_skip: true to take the best of them"
        )
    best = kept or fitting
    chosen = min(best, key=lambda search: (-search.best_validation_accuracy, search.search_seed, search.run))
    return Selection(chosen, _table(searches, kept, chosen, limits))


def _too_large(search: Candidate, limits: Size | None) -> str:
    """Return by what a network is above a limit, or ""; raises `ParameterError` if its size is not known."""
    limited = {name: most for name, most in (limits._asdict() if limits else {}).items() if most}
    if limited and search.size is None:
        raise ParameterError(
            f"max_{next(iter(limited))}: the cells of {search.run} have custom operations, so their size is not known"
        )
    above = [
        f"{getattr(search.size, name):,} {name.replace('_', '-')}, max_{name} is {most:,}"
        for name, most in limited.items()
        if getattr(search.size, name) > most
    ]
    return " and ".join(above)


def _table(searches: list[Candidate], kept: list[Candidate], chosen: Candidate, limits: Size | None) -> pd.DataFrame:
    rows = [
        {
            "run": search.run,
            "search_seed": search.search_seed,
            "best_validation_accuracy": search.best_validation_accuracy,
            "skips_normal": skip_count(search.genotype),
            **(search.size._asdict() if search.size else {}),
            "kept": search in kept,
            "chosen": search is chosen,
            "why": _why(search, kept, chosen, limits),
        }
        for search in searches
    ]
    return pd.DataFrame(rows)


def _why(search: Candidate, kept: list[Candidate], chosen: Candidate, limits: Size | None) -> str:
    if search is chosen:
        return "chosen: best validation accuracy" + ("" if kept else " of all, since none has a skip connection")
    if search in kept:
        return "kept: another has a higher validation accuracy, or the same and a lower seed"
    if not math.isfinite(search.best_validation_accuracy):
        return f"disregarded: validation accuracy is {search.best_validation_accuracy}"
    if large := _too_large(search, limits):
        return f"disregarded: {large}"
    return "disregarded: no skip connection in the normal cell"
