"""The rules by which runs speak for or against a claim. A claim names its rule and arguments in `thesis/claims.csv`.

A rule takes the evidence of a study and words; it returns a `Finding` or raises `NotRun`. A pair is two searches of the
same search seed; a searched cell counts once, with the mean over its evaluations.
"""

import math
from collections.abc import Callable, Iterable
from statistics import fmean

import numpy as np

from hdarts.workbook.analysis.statistics import (
    expected_maximum,
    rank_correlation,
    summary,
    unpaired_interval,
    unpaired_test,
)
from hdarts.workbook.claims.evidence import Evidence, NotRun, Row, grouped, matching, measured
from hdarts.workbook.claims.finding import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Effect,
    Finding,
    Want,
    combine,
    paired,
    too_few,
)

NOTHING = 1e-6  # a share below this is rounding
UNITS = {
    "test_accuracy": "test accuracy, points",
    "validation_accuracy": "search-validation accuracy, points",
    "skip_free": "share of normal cells without skip connection",
    "eigenvalue": "largest eigenvalue of the Hessian in alpha",
    "drop": "accuracy lost by discretisation, points",
    "seconds": "log2 of the search time",
}


def difference(
    evidence: Evidence, first: str, *others: str, of: str, want: Want, margin: str = "0", **where: str
) -> Finding:
    """Is a measure of one arm higher (lower) than that of the others? Paired over search seeds; all have to hold.

    `margin`: as good as the others is enough if it is not worse by more than this; below 0 it has to be better by that.
    """
    return combine([_against(evidence, first, other, of, want, float(margin), where) for other in others])


def _against(
    evidence: Evidence, first: str, second: str, of: str, want: Want, margin: float, where: dict[str, str]
) -> Finding:
    a, b = (evidence.by_seed(arm, of, **where) for arm in (first, second))
    if of == "test_accuracy" and len(a) == len(b) == 1 and all(row["selected"] for row in (*a.values(), *b.values())):
        return _selected(evidence, first, second, *a.values(), *b.values())
    if not (seeds := [seed for seed in a if seed in b]):
        raise NotRun(f"{first} and {second} have no search seed in common")
    x, y = (np.array([rows[seed][of] for seed in seeds], dtype=float) for rows in (a, b))
    if of == "seconds":
        x, y = np.log2(x), np.log2(y)
    effect = paired(x - y)
    told = f"{first} - {second}: {effect} [{UNITS.get(of, of)}]"
    if of == "seconds":
        told = f"{first} takes {2**effect.value:.2f} times as long as {second}: {told}"
    verdict = effect.decide(want)
    if margin:
        told += f"; held against a margin of {margin:g}"
        verdict = paired(x - y + (margin if want == "higher" else -margin)).decide(want)
    runs = _names(rows[seed] for rows in (a, b) for seed in seeds)
    return Finding(f"{first}, {second}: {_seeds(seeds)}", f"{told}.{too_few(len(seeds))}", verdict, runs)


def _selected(evidence: Evidence, first: str, second: str, a: Row, b: Row) -> Finding:
    """One selected cell an arm: two cells are told apart, methods are not, however often the cells are trained."""
    low, high = unpaired_interval(a["accuracies"], b["accuracies"])
    interval = "no interval" if math.isnan(low) else f"{low:+.3g} to {high:+.3g} over evaluation seeds"
    counts = " and ".join(str(len(row["accuracies"])) for row in (a, b))
    told = (
        f"Best of n: {first} - {second}: {a['test_accuracy'] - b['test_accuracy']:+.3g} points ({interval}). One "
        f"selected cell an arm cannot rank methods. {_best_by_chance(evidence, (first, second), str(a['data']))}"
    )
    return Finding(f"{first}, {second}: one selected cell each, {counts} evaluations", told, UNDECIDED, _names([a, b]))


def _best_by_chance(evidence: Evidence, arms: tuple[str, ...], data: str) -> str:
    """What the best of as many random cells, chosen by their test accuracy, would be expected to have."""
    cells = [row["test_accuracy"] for row in matching(evidence.cells, arm="random", data=data)]
    n = max(1, *(len(matching(evidence.searches, arm=arm)) for arm in arms))
    if len(cells) < n:
        return f"Best of {n} random cells: {len(cells)} were tested."
    return f"Expected best of {n} random cells: {expected_maximum(cells, n):.2f} %."


def trend(evidence: Evidence, arm: str, over: str, of: str, want: Want, **where: str) -> Finding:
    """Does a measure rise (fall) with a setting? Spearman's correlation within each search seed, seeds as runs.

    A measure that is the same for all values of a seed has correlation 0 with them.
    """
    rows = evidence.of_arm(arm, [over, of], **where)
    seeds = {seed: own for seed, own in grouped(rows, "search_seed").items() if len(_values(own, over)) > 1}
    if not seeds:
        raise NotRun(f"several values of {over} at one search seed in arm {arm}")
    correlations = []
    for own in seeds.values():
        x, y = ([row[name] for row in own] for name in (over, of))
        correlations.append(rank_correlation(x, y).value if len(set(y)) > 1 else 0.0)
    effect = paired(correlations)
    values = ", ".join(f"{value:g}" for value in _values(rows, over))
    told = f"Spearman's ρ of {_words(of)} with {_words(over)}, mean over seeds: {effect}.{too_few(effect.n)}"
    return Finding(f"{arm}: {_words(over)} {values}; {_seeds(seeds)}", told, effect.decide(want), _names(rows))


def best_setting(evidence: Evidence, arm: str, setting: str, over: str, want: Want, **where: str) -> Finding:
    """Is the best value of `setting` higher at the largest value of `over` than at the smallest? By search seed."""
    rows = evidence.of_arm(arm, [setting, over, "validation_accuracy"], **where)
    ends = _values(rows, over)[0], _values(rows, over)[-1]
    moves = {}
    for seed, own in grouped(rows, "search_seed").items():
        small, large = ([row for row in own if row[over] == end] for end in ends)
        if ends[0] < ends[1] and min(len(_values(side, setting)) for side in (small, large)) > 1:
            before, after = (max(side, key=lambda row: row["validation_accuracy"])[setting] for side in (small, large))
            moves[seed] = math.log2(after / before)
    if not moves:
        raise NotRun(f"several values of {setting} at two values of {over} and one search seed in arm {arm}")
    effect = paired(list(moves.values()))
    ran = f"{arm}: {_words(over)} {ends[0]:g} and {ends[1]:g}; {_seeds(moves)}"
    told = f"log2 of the best {_words(setting)} at {_words(over)} {ends[1]:g} over that at {ends[0]:g}: {effect}."
    return Finding(ran, told + too_few(effect.n), effect.decide(want), _names(rows))


def correlation(evidence: Evidence, x: str, y: str, want: Want) -> Finding:
    """Do two measures of the searched cells rise together? Spearman's, one point a cell, all arms together."""
    cells = _own_cells(evidence, x, y)
    if len(cells) < 3:
        raise NotRun(f"three tested cells that were searched; there are {len(cells)}")
    found = rank_correlation([row[x] for row in cells], [row[y] for row in cells])
    verdict = Effect(found.value, found.low, found.high, found.p, found.n).decide(want)
    return Finding(
        f"{len(cells)} searched cells of {len(grouped(cells, 'arm'))} arms", f"{found}.", verdict, _names(cells)
    )


def groups(evidence: Evidence, of: str, by: str, want: Want) -> Finding:
    """Is a measure of the cells that have the mark `by` higher (lower) than that of the others? Unpaired, all arms."""
    cells = _own_cells(evidence, of, by)
    marked, others = ([row[of] for row in cells if row[by] == value] for value in (1, 0))
    ran = f"{len(marked)} cells that are {_words(by)}, {len(others)} others, of {len(grouped(cells, 'arm'))} arms"
    if min(len(marked), len(others)) < 2:
        raise NotRun(f"two cells of both kinds; there are {ran}")
    gap, p = unpaired_test(marked, others)
    effect = Effect(gap, *unpaired_interval(marked, others), p, len(cells))
    told = f"{_words(by)} - others: {effect} [{UNITS.get(of, of)}]."
    return Finding(ran, told, effect.decide(want), _names(cells))


def _own_cells(evidence: Evidence, *measures: str) -> list[Row]:
    """Return the cells that were tested on the data they were searched on, as far as they have the measures."""
    cells = [row for row in evidence.cells if row["data"] == row["search_data"]]
    if not cells:
        raise NotRun("cells tested on the data that they were searched on")
    return measured(cells, measures, "the tested cells")


def no_direct(evidence: Evidence, *arms: str) -> Finding:
    """Is the direct part of the hypergradient 0? Contradicted where it is not 0 at any logged step of any search.

    No test: it is no sample but a number that was computed, at every logged step.
    """
    rows = [row for arm in arms for row in evidence.of_arm(arm, ["direct_share", "least_direct_share"])]
    told = summary([row["direct_share"] for row in rows])
    least = min(row["least_direct_share"] for row in rows)
    verdict = CONTRADICTED if least > NOTHING else SUPPORTED if told.maximum <= NOTHING else UNDECIDED
    interval = "" if math.isnan(told.low) else f" ({told.low:.2f} to {told.high:.2f})"
    share = f"|direct| / (|direct| + |response|): {told.mean:.2f}{interval}, at least {least:.2g} at every logged step."
    return Finding(f"{', '.join(arms)}: {len(rows)} searches", share, verdict, _names(rows))


def snapshots(
    evidence: Evidence, *arms: str, method: str, than: str, want: Want, of: str = "relative_error", part: str = "total"
) -> Finding:
    """Is one method nearer to a long unrolling than another at the same snapshots? Mean of a search; searches as runs.

    `than` may be a shorter unrolling: its distance from the long one is the uncertainty of the reference itself.
    """
    return combine([_within(evidence, arm, method, than, want, of, part) for arm in arms])


def _within(evidence: Evidence, arm: str, method: str, than: str, want: Want, of: str, part: str) -> Finding:
    if not (rows := matching(evidence.snapshots, arm=arm, part=part)):
        raise NotRun(f"notebook 04 was not run on a search of arm {arm}")
    first, second = (_means(rows, arm, name, of) for name in (method, than))
    runs = [run for run in first if run in second]
    effect = paired([first[run] - second[run] for run in runs])
    a, b = (fmean(found[run] for run in runs) for found in (first, second))
    told = f"{arm}, {part}: {_words(of)} of {method} {a:.2f}, of {than} {b:.2f}: {effect}.{too_few(effect.n)}"
    ran = f"{arm}: {len(runs)} searches, {len(grouped(rows, 'epoch'))} snapshots each"
    return Finding(ran, told, effect.decide(want), tuple(runs))


def _means(rows: list[Row], arm: str, method: str, of: str) -> dict[str, float]:
    """Means over the snapshots of each run."""
    own = measured(matching(rows, method=method), [of], f"{method} of arm {arm}")
    return {run: fmean(row[of] for row in looks) for run, looks in grouped(own, "run").items()}


def _values(rows: Iterable[Row], name: str) -> list[float]:
    return sorted({float(row[name]) for row in rows})


def _words(name: str) -> str:
    return name.replace("_", " ")


def _seeds(seeds: Iterable[int]) -> str:
    return f"search seeds {', '.join(map(str, seeds))}"


def _names(rows: Iterable[Row]) -> tuple[str, ...]:
    """Names of the runs of these rows; a cell has one for each evaluation."""
    return tuple(dict.fromkeys(name for row in rows for name in row["run"].split()))


RULES: dict[str, Callable[..., Finding]] = {
    "best_setting": best_setting,
    "correlation": correlation,
    "difference": difference,
    "groups": groups,
    "no_direct": no_direct,
    "snapshots": snapshots,
    "trend": trend,
}
