"""The rules by which the runs of a study support or contradict a claim; `claims.py` says which rule tests which claim.

A rule takes the evidence of a study; it returns a `Finding` or raises `NotRun`. A pair is two searches with the same
search seed; a searched cell counts once, with the mean over its evaluations.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.statistics import (
    pairs_needed,
    rank_correlation,
    smallest_difference,
    summary,
    unpaired_interval,
)
from hdarts.workbook.analysis.tables import LAST
from hdarts.workbook.claims.evidence import Evidence, NotRun, grouped, matching, measured
from hdarts.workbook.claims.finding import (
    CONTRADICTED,
    NOT_DECIDABLE,
    SUPPORTED,
    Effect,
    Finding,
    Want,
    combine,
    paired,
    too_few,
)
from hdarts.workbook.claims.full_scale import price_at_full_scale

NOTHING = 1e-6  # a share below this is rounding
UNITS = {
    LAST: "test accuracy of the last epoch, points",
    "true_cifar10": "true CIFAR-10 test accuracy, points",
    "true_cifar100": "true CIFAR-100 test accuracy, points",
    "validation_accuracy": "search-validation accuracy, points",
    "skip_free": "share of normal cells without skip connection",
    "eigenvalue": "largest eigenvalue of the Hessian in alpha",
    "drop": "search-validation accuracy lost by discretisation, points",
    "seconds": "log2 of the search time",
}


def difference(
    evidence: Evidence,
    arms: Sequence[str],
    of: str,
    want: Want,
    margin: float = 0.0,
    stated: float = math.inf,
    **where: str,
) -> Finding:
    """Is a measure of the first arm higher (lower) than that of each other arm? Paired over search seeds.

    `margin`: the first may be worse by up to this much; if it is negative, it has to be better by at least that much.
    `stated`: how much better it is in the thesis; what more runs would cost is computed for this size.
    """
    return combine([_compare(evidence, arms[0], other, of, want, margin, where, stated) for other in arms[1:]])


def better_cells(evidence: Evidence, arms: Sequence[str], data: str, stated: float = math.inf) -> Finding:
    """Does the first arm find better cells than each other arm? By their true accuracy where the study has it.

    True accuracies are those of the table of NAS-Bench-201, of the cell that each search ended with. In other spaces
    the test accuracy of evaluations decides. A study at a smaller scale that trained no cell cannot decide; the price
    of one that could is computed.
    """
    known = all(row.get(f"true_{data}") is not None for row in matching(evidence.searches, arm=arms[0]))
    if known and matching(evidence.searches, arm=arms[0]):
        return difference(evidence, arms, f"true_{data}", "higher", stated=stated)
    if evidence.scale and not evidence.cells and all(matching(evidence.searches, arm=arm) for arm in arms):
        return combine([_untested(evidence, (arms[0], other), data, stated) for other in arms[1:]])
    return difference(evidence, arms, LAST, "higher", stated=stated, data=data)


def _untested(evidence: Evidence, arms: tuple[str, str], data: str, stated: float) -> Finding:
    rows = [row for arm in arms for row in matching(evidence.searches, arm=arm)]
    ran = f"{' and '.join(arms)}: {len(rows)} searches"
    needs = price_at_full_scale(arms, data, stated)
    return Finding(ran, "No cell was trained from scratch.", NOT_DECIDABLE, _names(rows), (), needs)


def comparable(evidence: Evidence, arms: Sequence[str], others: Sequence[str], margin: float) -> Finding:
    """Are the true accuracies of each of `arms` within `margin` of those of all `others` that were run?"""
    found = [other for other in others if matching(evidence.searches, arm=other)]
    if not found:
        raise NotRun(f"a search of one of {', '.join(others)}")
    return combine([similar(evidence, (arm, other), "true_cifar10", margin) for arm in arms for other in found])


def similar(evidence: Evidence, arms: Sequence[str], of: str, margin: float) -> Finding:
    """Is a measure of the first arm within `margin` of that of the second? Two one-sided tests, paired over seeds."""
    wants: tuple[Want, Want] = ("higher", "lower")
    return combine([_compare(evidence, arms[0], arms[1], of, want, margin, {}) for want in wants])


def _compare(
    evidence: Evidence,
    first: str,
    second: str,
    of: str,
    want: Want,
    margin: float,
    where: dict[str, str],
    stated: float = math.inf,
) -> Finding:
    a, b = (evidence.by_seed(arm, of, **where) for arm in (first, second))
    if of == LAST and len(a) == len(b) == 1 and all(row["selected"] for row in (*a.values(), *b.values())):
        return _selected(evidence, first, second, *a.values(), *b.values())
    if not (seeds := [seed for seed in a if seed in b]):
        raise NotRun(f"{first} and {second} have no search seed in common")
    x, y = (np.array([rows[seed][of] for seed in seeds], dtype=float) for rows in (a, b))
    if of == "seconds":
        x, y = np.log2(x), np.log2(y)
    shift = margin if want == "higher" else -margin
    effect, tested = paired(x - y), paired(x - y + shift)
    text = f"{first} - {second}: {replace(effect, p=tested.p)} [{UNITS.get(of, of)}]"
    if of == "seconds":
        text = f"{first} takes {2**effect.value:.2f} times as long as {second}: {text}"
    if margin:
        text += f"; p is that of a test with a margin of {margin:g}"
    runs, ran = _names(rows[seed] for rows in (a, b) for seed in seeds), f"{first}, {second}: {_seeds(seeds)}"
    verdict = tested.decide(want, stated)
    needs = price(x - y + shift, stated, [rows[seed] for rows in (a, b) for seed in seeds])
    needs = needs if verdict == NOT_DECIDABLE else ""
    return Finding(ran, f"{text}.{too_few(len(seeds))}", verdict, runs, (tested.p,), needs)


def price(differences: np.ndarray, stated: float, rows: list[Row], size: str = "stated") -> str:
    """Return what pairs with this spread can show, and how many more, at which cost, the stated difference needs.

    `rows`: the runs of all pairs; `size`: what the difference is, if the thesis states none.
    """
    n = len(differences)
    shown = smallest_difference(differences)
    what = f"{n} pairs with this spread show differences from {shown:.3g} on." if n > 1 else "One pair has no spread."
    if math.isinf(stated) or n < 2:
        return what
    if (pairs := pairs_needed(differences, stated)) is None:
        return f"{what} The {size} {stated:.3g} would need more than 100,000 pairs."
    seconds = sum(row.get("seconds", math.nan) for row in rows) / n
    cost = "" if math.isnan(seconds) else f", {max(0, pairs - n) * seconds / 3600:,.1f} more hours of runs here"
    return f"{what} The {size} {stated:.3g} needs {pairs:,} pairs{cost}."


def _selected(evidence: Evidence, first: str, second: str, a: Row, b: Row) -> Finding:
    """Return the finding for one selected cell per arm, which compares two cells and not the methods."""
    low, high = unpaired_interval(a["accuracies"], b["accuracies"])
    interval = "no interval" if math.isnan(low) else f"Welch's 95 % t interval {low:+.3g} to {high:+.3g}, over seeds"
    counts = " and ".join(str(len(row["accuracies"])) for row in (a, b))
    chance = _best_by_chance(evidence, (first, second), str(a["data"]))
    text = f"Best of n: {first} - {second}: {a[LAST] - b[LAST]:+.3g} points ({interval}). {chance}"
    needs = "One selected cell per arm cannot rank methods: evaluate the cell of every search."
    return Finding(
        f"{first}, {second}: one selected cell each, {counts} evaluations",
        text,
        NOT_DECIDABLE,
        _names([a, b]),
        (),
        needs,
    )


def _best_by_chance(evidence: Evidence, arms: tuple[str, ...], data: str) -> str:
    """Return the expected test accuracy of the best of as many random cells, chosen by test accuracy."""
    n = max(1, *(len(matching(evidence.searches, arm=arm)) for arm in arms))
    accuracy, tested = evidence.expected_best(n, data)
    if math.isnan(accuracy):
        return f"Expected best of {n} random cells: unknown, since only {tested} were tested."
    return f"Expected best of {n} random cells: {accuracy:.2f} %."


def trend(evidence: Evidence, arm: str, over: str, of: str, want: Want, **where: str) -> Finding:
    """Does a measure rise (fall) with a setting? Spearman's correlation (0 if constant) within each search seed."""
    rows = evidence.of_arm(arm, [over, of], **where)
    seeds = {seed: group for seed, group in grouped(rows, "search_seed").items() if len(_values(group, over)) > 1}
    if not seeds:
        raise NotRun(f"no search seed of arm {arm} has several values of {over}")
    correlations = []
    for group in seeds.values():
        x, y = ([row[name] for row in group] for name in (over, of))
        correlations.append(rank_correlation(x, y).value if len(set(y)) > 1 else 0.0)
    effect = paired(correlations)
    values = ", ".join(f"{value:g}" for value in _values(rows, over))
    text = f"Spearman's ρ of {_words(of)} with {_words(over)}, mean over seeds: {effect}.{too_few(effect.n)}"
    ran = f"{arm}: {_words(over)} {values}; {_seeds(seeds)}"
    return Finding(ran, text, effect.decide(want), _names(rows), (effect.p,))


def reduced_until(evidence: Evidence, arms: Sequence[str], over: str, of: str) -> Finding:
    """Is there a value of a setting, from the largest down, at which no search of all seeds has the measure?

    No test is needed: it is a procedure that ends or does not. Seeds are those that all values have, at least four.
    """
    rows = [row for arm in arms for row in evidence.of_arm(arm, [over, of])]
    settings = {value: matching(rows, **{over: str(value)}) for value in reversed(_values(rows, over))}
    common = set.intersection(*({int(row["search_seed"]) for row in group} for group in settings.values()))
    if len(settings) < 2 or len(common) < 4:
        raise NotRun(f"four search seeds in common of several values of {over}, arms {', '.join(arms)}")
    counts, verdict = [], CONTRADICTED
    for value, group in settings.items():
        found = sum(row[of] > 0 for row in group if int(row["search_seed"]) in common)
        counts.append(f"{found} of {len(common)} at {value:g}")
        if not found:
            verdict = SUPPORTED
            break
    text = f"{_words(of).capitalize()} normal cells, from the most {_words(over)} on: {', '.join(counts)}."
    return Finding(f"{', '.join(arms)}: {_seeds(sorted(common))}", text, verdict, _names(rows))


def best_setting(evidence: Evidence, arm: str, setting: str, over: str, want: Want, **where: str) -> Finding:
    """Is the best value of `setting` higher at the largest value of `over` than at the smallest? By search seed."""
    rows = evidence.of_arm(arm, [setting, over, "validation_accuracy"], **where)
    ends = _values(rows, over)[0], _values(rows, over)[-1]
    changes = {}
    for seed, group in grouped(rows, "search_seed").items():
        small, large = ([row for row in group if row[over] == end] for end in ends)
        if ends[0] < ends[1] and min(len(_values(side, setting)) for side in (small, large)) > 1:
            before, after = (max(side, key=lambda row: row["validation_accuracy"])[setting] for side in (small, large))
            changes[seed] = math.log2(after / before)
    if not changes:
        raise NotRun(f"no search seed of arm {arm} has several values of {setting} at two values of {over}")
    effect = paired(list(changes.values()))
    ran = f"{arm}: {_words(over)} {ends[0]:g} and {ends[1]:g}; {_seeds(changes)}"
    text = f"log2 of the best {_words(setting)} at {_words(over)} {ends[1]:g} over that at {ends[0]:g}: {effect}."
    return Finding(ran, text + too_few(effect.n), effect.decide(want), _names(rows), (effect.p,))


def correlation(evidence: Evidence, x: str, y: str, want: Want) -> Finding:
    """Are two measures of the searched cells correlated? Spearman's correlation within arms, one point per cell."""
    cells = _searched_cells(evidence, x, y)
    rho = rank_correlation([row[x] for row in cells], [row[y] for row in cells], groups=[row["arm"] for row in cells])
    if math.isnan(rho.p):
        raise NotRun(f"three tested cells of one arm that differ in both measures; there are {len(cells)} cells in all")
    effect = Effect(rho.value, rho.low, rho.high, rho.p, rho.n)
    text = f"{_words(x)} and {_words(y)}: {rho}, p = {rho.p:.2g}."
    ran = f"{rho.n} searched cells of {rho.groups} arms"
    return Finding(ran, text, effect.decide(want), _names(cells), (rho.p,))


def _searched_cells(evidence: Evidence, *measures: str) -> list[Row]:
    """Return the cells that were tested on the data they were searched on, as far as they have the measures."""
    cells = [row for row in evidence.cells if row["data"] == row["search_data"]]
    if not cells:
        raise NotRun("cells tested on the data that they were searched on")
    return measured(cells, measures, "the tested cells")


def zero_direct_part(evidence: Evidence, arms: Sequence[str]) -> Finding:
    """Is the direct part of the hypergradient 0? Contradicted where it is not 0 at any logged step of any search.

    Arm by arm, since their shares differ. No test is needed: the shares are computed at every logged step, not sampled.
    """
    return combine([_zero(arm, evidence.of_arm(arm, ["direct_share", "least_direct_share"])) for arm in arms])


def _zero(arm: str, rows: list[Row]) -> Finding:
    shares = summary([row["direct_share"] for row in rows])
    least = min(row["least_direct_share"] for row in rows)
    verdict = CONTRADICTED if least > NOTHING else SUPPORTED if shares.maximum <= NOTHING else NOT_DECIDABLE
    span = f"{shares.mean:.2f} ({shares.minimum:.2f} to {shares.maximum:.2f} over searches)"
    text = f"{arm}: |direct| / (|direct| + |response|) is {span}, at least {least:.2g} at every logged step."
    return Finding(f"{arm}: {len(rows)} searches", text, verdict, _names(rows))


def nearer(
    evidence: Evidence,
    arms: Sequence[str],
    method: str,
    than: str,
    want: Want,
    of: str = "relative_error",
    part: str = "total",
) -> Finding:
    """Is `method` nearer to a long unrolling than another method at the same snapshots? One mean per search.

    `than` may be a shorter unrolling: its distance from the long one is the uncertainty of the reference itself.
    """
    return combine([_nearer(evidence, arm, method, than, want, of, part) for arm in arms])


def _nearer(evidence: Evidence, arm: str, method: str, than: str, want: Want, of: str, part: str) -> Finding:
    if not (rows := matching(evidence.snapshots, arm=arm, part=part)):
        raise NotRun(f"notebook 04 was not run on a search of arm {arm}")
    first, second = (_means(rows, arm, name, of) for name in (method, than))
    runs = [run for run in first if run in second]
    effect = paired([first[run] - second[run] for run in runs])
    a, b = (fmean(means[run] for run in runs) for means in (first, second))
    text = f"{arm}, {part}: {_words(of)} of {method} {a:.2f}, of {than} {b:.2f}: {effect}.{too_few(effect.n)}"
    ran = f"{arm}: {len(runs)} searches, {len(grouped(rows, 'epoch'))} snapshots each"
    return Finding(ran, text, effect.decide(want), tuple(runs), (effect.p,))


def _means(rows: list[Row], arm: str, method: str, of: str) -> dict[str, float]:
    """Return the means over the snapshots of each run."""
    of_method = measured(matching(rows, method=method), [of], f"{method} of arm {arm}")
    return {run: fmean(row[of] for row in group) for run, group in grouped(of_method, "run").items()}


def _values(rows: Iterable[Row], name: str) -> list[float]:
    return sorted({float(row[name]) for row in rows})


def _words(name: str) -> str:
    return name.replace("_", " ")


def _seeds(seeds: Iterable[int]) -> str:
    return f"search seeds {', '.join(map(str, seeds))}"


def _names(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the names of the runs of these rows; a cell has one for each evaluation."""
    return tuple(dict.fromkeys(name for row in rows for name in row["run"].split()))
