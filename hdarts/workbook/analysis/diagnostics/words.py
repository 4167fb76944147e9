"""What the tables say, in sentences made of their numbers: the answer of notebook 04."""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from hdarts.params import HypergradientParams
from hdarts.supernet.layout import agreement
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
    Look,
)
from hdarts.workbook.analysis.diagnostics.tables import closer, has_hypernetwork, part_table

Row = dict[str, Any]


def answer(looks: Sequence[Look], params: HypergradientParams) -> list[str]:
    """Return what was seen of the methods: parts, uncertainty of the reference, hypernetwork against DARTS."""
    sentences = []
    for look in looks:
        sentences += [_parts(look, params), _uncertainty(look, params), _nearest(look)]
        if HYPERNETWORK in look.found:
            sentences += [_duel(look, part) for part in ("total", "response")]
    if has_hypernetwork(looks):
        sentences += [_verdict(looks, part) for part in ("total", "response")]
    else:
        sentences.append("This search learns its weights on their own: there is no hypernetwork to hold against DARTS.")
    return sentences


def about_kinks(rows: Sequence[Row]) -> list[str]:
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


def about_sharpness(rows: Sequence[Row]) -> list[str]:
    """Return what was seen of the Hessian."""
    return [
        f"Epoch {row['epoch']}, in {row['variables']} ({row['number']:,} numbers): eigenvalues from "
        f"{row['smallest']:.3g} to {row['largest']:.3g}"
        + (f"; learning rate x largest = {row['rate_largest']:.2g}" if math.isfinite(row["rate_largest"]) else "")
        + ("; no minimum, so the exact formula's inverse Hessian has no meaning." if row["smallest"] < 0 else ".")
        for row in rows
    ]


def about_batch_size(varied: Sequence[Row], reported: Sequence[Row]) -> list[str]:
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


def numbers(looks: Sequence[Look]) -> Row:
    """Return the numbers of the last snapshot for result.json: agreement of the totals with the reference."""
    look = looks[-1]
    rows = {name: _agreement(look, name, "total") for name in look.found if name != REFERENCE}
    own = [name for name in rows if name not in REFERENCES]
    return {
        "epoch": look.epoch,
        "reference_uncertainty": rows[HALF]["relative_error"],
        "nearest": min(own, key=lambda name: rows[name]["relative_error"]),
        "cosine": {name: row["cosine"] for name, row in rows.items()},
        "relative_error": {name: row["relative_error"] for name, row in rows.items()},
    }


def _means(rows: Sequence[Row], key: str) -> dict[Any, float]:
    """Mean magnitude over all edges for each value of a column."""
    return {value: fmean(row["mean"] for row in rows if row[key] == value) for value in {row[key]: 0 for row in rows}}


def _agreement(look: Look, method: str, part: str) -> Row:
    return agreement(look.found[method].part(part), look.found[REFERENCE].part(part))


def _told(row: Row) -> str:
    return f"cosine {row['cosine']:.2f}, relative error {row['relative_error']:.2g}"


def _parts(look: Look, params: HypergradientParams) -> str:
    rows = {row["method"]: row for row in part_table([look])}
    own = HYPERNETWORK if HYPERNETWORK in rows else ONE_STEP
    reference = rows[REFERENCE]
    text = (
        f"Epoch {look.epoch}: at the snapshot the direct part has norm {rows[DIRECT]['direct']:.3g} and the response "
        f"({own}) {rows[own]['response']:.3g}, cosine {rows[own]['cosine']:.2f}; after {params.reference_steps} more "
        f"steps the reference has {reference['direct']:.3g} and {reference['response']:.3g}, cosine "
        f"{reference['cosine']:.2f}."
    )
    if own == HYPERNETWORK:
        share = rows[own]["along_ones"]
        text += f" Of the hypernetwork's response {100 * share:.0f} % of the norm lies where softmax sees nothing."
    return text


def _uncertainty(look: Look, params: HypergradientParams) -> str:
    half, other = (_agreement(look, name, "total") for name in (HALF, OTHER))
    local = _agreement(look, SECOND, "response")
    return (
        f"Epoch {look.epoch}: the reference ({params.reference_steps} SGD steps of {params.step_size:g}) is itself "
        f"uncertain: half the steps give {_told(half)}; half of them on other batches {_told(other)}; its response and "
        f"that of damped conjugate gradients have cosine {local['cosine']:.2f}."
    )


def _nearest(look: Look) -> str:
    methods = [name for name in look.found if name not in REFERENCES]
    by = {name: _agreement(look, name, "total") for name in methods}
    best = max(methods, key=lambda name: by[name]["cosine"])
    least = min(methods, key=lambda name: by[name]["relative_error"])
    return (
        f"Epoch {look.epoch}: by cosine the total of `{best}` is nearest to the reference ({by[best]['cosine']:.2f}), "
        f"by relative error that of `{least}` ({by[least]['relative_error']:.2g})."
    )


def _duel(look: Look, part: str) -> str:
    ours, theirs = (_agreement(look, name, part) for name in (HYPERNETWORK, DIFFERENCE))
    gap = _gap(look, part)
    own = _agreement(look, HALF, part)["relative_error"]
    resolved = "more" if gap > own else "less"
    return (
        f"Epoch {look.epoch}, {part}: hypernetwork {_told(ours)}; DARTS's finite difference {_told(theirs)}. The "
        f"errors differ by {gap:.2g}, {resolved} than the reference from its own half ({own:.2g}). No response at all: "
        f"error {_agreement(look, DIRECT, part)['relative_error']:.2g}."
    )


def _gap(look: Look, part: str) -> float:
    """How far the relative errors of hypernetwork and finite difference lie apart."""
    ours, theirs = (_agreement(look, name, part)["relative_error"] for name in (HYPERNETWORK, DIFFERENCE))
    return abs(ours - theirs)


def _verdict(looks: Sequence[Look], part: str) -> str:
    rows = closer(looks, HYPERNETWORK, DIFFERENCE, part)
    epochs = ", ".join(str(look.epoch) for look in looks)
    cosine, error = (sum(row[key] for row in rows) for key in ("by_cosine", "by_error"))
    if min(cosine, error) == len(rows):
        verdict = "closer to the truth than DARTS's finite difference, whichever reference stands for it"
    elif max(cosine, error) == 0:
        verdict = "farther from the truth than DARTS's finite difference, whichever reference stands for it"
    else:
        verdict = "closer or farther than DARTS's finite difference depending on what is taken for the truth"
    resolved = sum(_gap(look, part) > _agreement(look, HALF, part)["relative_error"] for look in looks)
    return (
        f"{part.capitalize()} of the hypernetwork: {verdict} (closer by cosine in {cosine}, by relative error in "
        f"{error} of {len(rows)} comparisons: epoch {epochs}, 4 references each). The difference is "
        f"larger than the reference's own uncertainty at {resolved} of {len(looks)} snapshots, all of one search."
    )
