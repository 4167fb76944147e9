"""Sentences that state the numbers of the tables: the results of notebook 04."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from hdarts.params import HypergradientParams
from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.agreement import closer, has_hypernetwork, part_table
from hdarts.workbook.analysis.diagnostics.methods import (
    DIFFERENCE,
    DIRECT,
    EPSILON,
    HALF,
    HYPERNETWORK,
    ONE_STEP,
    OTHER,
    REFERENCE,
    REFERENCES,
    SECOND,
    Comparison,
)


def describe_methods(comparisons: Sequence[Comparison], params: HypergradientParams) -> list[str]:
    """Return what was seen of the methods: parts, uncertainty of the reference, hypernetwork against DARTS."""
    sentences = []
    for comparison in comparisons:
        sentences += [_parts(comparison, params), _uncertainty(comparison, params), _nearest(comparison)]
        if HYPERNETWORK in comparison.estimates:
            sentences += [_duel(comparison, part) for part in ("total", "response")]
    if has_hypernetwork(comparisons):
        sentences += [_verdict(comparisons, part) for part in ("total", "response")]
    else:
        sentences.append("This search learns its weights on their own: there is no hypernetwork to hold against DARTS.")
    return sentences


def describe_kinks(rows: Sequence[Row]) -> list[str]:
    """Return what was seen of finite differences over epsilon, at DARTS's and at the extremes."""
    names = list(dict.fromkeys(row["network"] for row in rows))
    sentences = []
    for name in names:
        own = [row for row in rows if row["network"] == name]
        used = min(own, key=lambda row: abs(math.log(row["epsilon"] / EPSILON)))
        best = min(own, key=lambda row: row["relative_error"])
        worst = max(own, key=lambda row: row["relative_error"])
        sentences.append(
            f"{name}: relative error {used['relative_error']:.2g} (cosine {used['cosine']:.2f}) at epsilon "
            f"{used['epsilon']:.0e}, at most {worst['relative_error']:.2g} at {worst['epsilon']:.0e}, at least "
            f"{best['relative_error']:.2g} at {best['epsilon']:.0e}."
        )
    return sentences


def describe_sharpness(rows: Sequence[Row]) -> list[str]:
    """Return what was seen of the Hessian."""
    return [
        f"Epoch {row['epoch']}, in {row['variables']} ({row['number']:,} numbers): eigenvalues from "
        f"{row['smallest']:.3g} to {row['largest']:.3g}"
        + (f"; learning rate x largest = {row['rate_largest']:.2g}" if math.isfinite(row["rate_largest"]) else "")
        + ("; no minimum, so the exact formula's inverse Hessian has no meaning." if row["smallest"] < 0 else ".")
        for row in rows
    ]


def describe_batch_size(varied: Sequence[Row], reported: Sequence[Row]) -> list[str]:
    """Return what was seen of the magnitude with the model fixed, and beside it with two models as in the thesis."""
    of = _means(varied, "batch_size")
    small, large = min(of), max(of)
    (first, a), (second, b) = _means(reported, "model").items()
    counts = {row["model"]: row["batch_size"] for row in reported}
    expected = math.sqrt(counts[first] / counts[second])
    return [
        f"With the model fixed, {large / small:.0f} times the batch size ({small} to {large}) makes the hypergradient "
        f"{of[large] / of[small]:.2f} times as large over all edges of normal cells (noise alone, 1/√n: "
        f"{math.sqrt(small / large):.2f}). With two models, batches of {counts[second]} instead of {counts[first]} "
        f"come with {b / a:.2f} times the magnitude, of which the batch size explains {expected:.2f} and the model the "
        "rest."
    ]


def result_numbers(comparisons: Sequence[Comparison]) -> Row:
    """Return the numbers of the last snapshot for result.json: agreement of the totals with the reference."""
    comparison = comparisons[-1]
    rows = {name: _agreement(comparison, name, "total") for name in comparison.estimates if name != REFERENCE}
    own = [name for name in rows if name not in REFERENCES]
    return {
        "epoch": comparison.epoch,
        "reference_uncertainty": rows[HALF]["relative_error"],
        "nearest": min(own, key=lambda name: rows[name]["relative_error"]),
        "cosine": {name: row["cosine"] for name, row in rows.items()},
        "relative_error": {name: row["relative_error"] for name, row in rows.items()},
    }


def _means(rows: Sequence[Row], key: str) -> dict[Any, float]:
    """Mean magnitude over all edges for each value of a column."""
    return {value: fmean(row["mean"] for row in rows if row[key] == value) for value in {row[key]: 0 for row in rows}}


def _agreement(comparison: Comparison, method: str, part: str) -> Row:
    return agreement(comparison.estimates[method].part(part), comparison.estimates[REFERENCE].part(part))


def _told(row: Row) -> str:
    return f"cosine {row['cosine']:.2f}, relative error {row['relative_error']:.2g}"


def _parts(comparison: Comparison, params: HypergradientParams) -> str:
    epoch = comparison.epoch
    rows = {row["method"]: row for row in part_table([comparison])}
    own = HYPERNETWORK if HYPERNETWORK in rows else ONE_STEP
    reference = rows[REFERENCE]
    text = (
        f"Epoch {epoch}: at the snapshot the direct part has norm {rows[DIRECT]['direct']:.3g} and the response "
        f"({own}) {rows[own]['response']:.3g}, cosine {rows[own]['cosine']:.2f}; after {params.reference_steps} more "
        f"steps the reference has {reference['direct']:.3g} and {reference['response']:.3g}, cosine "
        f"{reference['cosine']:.2f}."
    )
    if own == HYPERNETWORK:
        share = rows[own]["along_ones"]
        text += f" Of the hypernetwork's response {100 * share:.0f} % of the norm lies where softmax sees nothing."
    return text


def _uncertainty(comparison: Comparison, params: HypergradientParams) -> str:
    epoch = comparison.epoch
    half, other = (_agreement(comparison, name, "total") for name in (HALF, OTHER))
    local = _agreement(comparison, SECOND, "response")
    return (
        f"Epoch {epoch}: the reference ({params.reference_steps} SGD steps of {params.step_size:g}) is itself "
        f"uncertain: half the steps give {_told(half)}; half of them on other batches {_told(other)}; its response and "
        f"that of damped conjugate gradients have cosine {local['cosine']:.2f}."
    )


def _nearest(comparison: Comparison) -> str:
    epoch = comparison.epoch
    methods = [name for name in comparison.estimates if name not in REFERENCES]
    by = {name: _agreement(comparison, name, "total") for name in methods}
    best = max(methods, key=lambda name: by[name]["cosine"])
    least = min(methods, key=lambda name: by[name]["relative_error"])
    return (
        f"Epoch {epoch}: by cosine the total of `{best}` is nearest to the reference ({by[best]['cosine']:.2f}), "
        f"by relative error that of `{least}` ({by[least]['relative_error']:.2g})."
    )


def _duel(comparison: Comparison, part: str) -> str:
    epoch = comparison.epoch
    ours, theirs = (_agreement(comparison, name, part) for name in (HYPERNETWORK, DIFFERENCE))
    gap = _gap(comparison, part)
    own = _agreement(comparison, HALF, part)["relative_error"]
    resolved = "more" if gap > own else "less"
    return (
        f"Epoch {epoch}, {part}: hypernetwork {_told(ours)}; DARTS's finite difference {_told(theirs)}. The "
        f"errors differ by {gap:.2g}, {resolved} than the reference from its own half ({own:.2g}). No response at all: "
        f"error {_agreement(comparison, DIRECT, part)['relative_error']:.2g}."
    )


def _gap(comparison: Comparison, part: str) -> float:
    """How far the relative errors of hypernetwork and finite difference lie apart."""
    ours, theirs = (_agreement(comparison, name, part)["relative_error"] for name in (HYPERNETWORK, DIFFERENCE))
    return abs(ours - theirs)


def _verdict(comparisons: Sequence[Comparison], part: str) -> str:
    rows = closer(comparisons, HYPERNETWORK, DIFFERENCE, part)
    epochs = ", ".join(str(comparison.epoch) for comparison in comparisons)
    cosine, error = (sum(row[key] for row in rows) for key in ("by_cosine", "by_error"))
    if min(cosine, error) == len(rows):
        verdict = "closer to the truth than DARTS's finite difference, whichever reference stands for it"
    elif max(cosine, error) == 0:
        verdict = "farther from the truth than DARTS's finite difference, whichever reference stands for it"
    else:
        verdict = "closer or farther than DARTS's finite difference depending on what is taken for the truth"
    resolved = sum(
        _gap(comparison, part) > _agreement(comparison, HALF, part)["relative_error"] for comparison in comparisons
    )
    return (
        f"{part.capitalize()} of the hypernetwork: {verdict} (closer by cosine in {cosine}, by relative error in "
        f"{error} of {len(rows)} comparisons: epoch {epochs}, 4 references each). The difference is "
        f"larger than the reference's own uncertainty at {resolved} of {len(comparisons)} snapshots, all of one search."
    )
