"""Sentences that state the numbers of the tables: the results of notebook 04."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from hdarts.params import HypergradientParams
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
    """Return sentences on both parts, the uncertainty of the reference, and the hypernetwork compared with DARTS."""
    sentences = []
    for one in comparisons:
        texts = [_parts(one, params), _uncertainty(one, params), _nearest(one)]
        if HYPERNETWORK in one.estimates:
            texts += [_hypernetwork_and_darts(one, part) for part in ("total", "response")]
        sentences += [f"Epoch {one.epoch}: {text}" for text in texts]
    if has_hypernetwork(comparisons):
        sentences += [_verdict(comparisons, part) for part in ("total", "response")]
    else:
        sentences.append("This search learns its weights directly: there is no hypernetwork to compare with DARTS.")
    return sentences


def describe_kinks(rows: Sequence[Row]) -> list[str]:
    """Return one sentence per network on the errors of finite differences: at DARTS's epsilon and at the extremes."""
    sentences = []
    for name in dict.fromkeys(row["network"] for row in rows):
        errors = [row for row in rows if row["network"] == name]
        used = min(errors, key=lambda row: abs(math.log(row["epsilon"] / EPSILON)))
        best = min(errors, key=lambda row: row["relative_error"])
        worst = max(errors, key=lambda row: row["relative_error"])
        sentences.append(
            f"{name}: relative error {used['relative_error']:.2g} (cosine {used['cosine']:.2f}) at epsilon "
            f"{used['epsilon']:.0e}; largest {worst['relative_error']:.2g} at {worst['epsilon']:.0e}, smallest "
            f"{best['relative_error']:.2g} at {best['epsilon']:.0e}."
        )
    return sentences


def describe_sharpness(rows: Sequence[Row]) -> list[str]:
    """Return one sentence per row on the eigenvalues of the Hessian."""
    return [
        f"Epoch {row['epoch']}, in {row['variables']} ({row['number']:,} numbers): eigenvalues from "
        f"{row['smallest']:.3g} to {row['largest']:.3g}"
        + (f"; learning rate x largest = {row['rate_largest']:.2g}" if math.isfinite(row["rate_largest"]) else "")
        + ("; not a minimum, so the exact formula's inverse Hessian has no meaning." if row["smallest"] < 0 else ".")
        for row in rows
    ]


def describe_batch_size(varied: Sequence[Row], reported: Sequence[Row]) -> list[str]:
    """Return a sentence on magnitude and batch size: with a fixed model, and with two models as in the thesis."""
    of = _means(varied, "batch_size")
    small, large = min(of), max(of)
    (first, a), (second, b) = _means(reported, "model").items()
    counts = {row["model"]: row["batch_size"] for row in reported}
    expected = math.sqrt(counts[first] / counts[second])
    return [
        f"With the model fixed, increasing the batch size from {small} to {large} multiplies the magnitude of the "
        f"hypergradient over all edges of normal cells by {of[large] / of[small]:.2f} (noise alone, by 1/√n: "
        f"{math.sqrt(small / large):.2f}). With two models, batches of {counts[second]} instead of {counts[first]} "
        f"multiply it by {b / a:.2f}, of which the batch size explains {expected:.2f} and the model the rest."
    ]


def result_numbers(comparisons: Sequence[Comparison]) -> Row:
    """Return the numbers of the last snapshot for result.json: agreement of the totals with the reference."""
    last = comparisons[-1]
    rows = {name: last.agreement(name, "total") for name in last.estimates if name != REFERENCE}
    return {
        "epoch": last.epoch,
        "reference_uncertainty": rows[HALF]["relative_error"],
        "nearest": min(
            (name for name in rows if name not in REFERENCES), key=lambda name: rows[name]["relative_error"]
        ),
        "cosine": {name: row["cosine"] for name, row in rows.items()},
        "relative_error": {name: row["relative_error"] for name, row in rows.items()},
    }


def _means(rows: Sequence[Row], key: str) -> dict[Any, float]:
    """Return the mean magnitude over all edges for each value of a column."""
    return {value: fmean(row["mean"] for row in rows if row[key] == value) for value in {row[key]: 0 for row in rows}}


def _text(row: Mapping[str, float]) -> str:
    return f"cosine {row['cosine']:.2f}, relative error {row['relative_error']:.2g}"


def _parts(one: Comparison, params: HypergradientParams) -> str:
    rows = {row["method"]: row for row in part_table([one])}
    method = HYPERNETWORK if HYPERNETWORK in rows else ONE_STEP
    response, reference = rows[method], rows[REFERENCE]
    text = (
        f"at the snapshot, the norm of the direct part is {rows[DIRECT]['direct']:.3g}, that of the response "
        f"({method}) {response['response']:.3g}, and their cosine {response['cosine']:.2f}; for the reference, after "
        f"{params.reference_steps} more steps, they are {reference['direct']:.3g}, {reference['response']:.3g} and "
        f"{reference['cosine']:.2f}."
    )
    if method == HYPERNETWORK:
        ignored = 100 * response["along_ones"]
        text += (
            f" {ignored:.0f} % of the norm of this response moves all alphas of an edge alike, which softmax ignores."
        )
    return text


def _uncertainty(one: Comparison, params: HypergradientParams) -> str:
    half, other = (one.agreement(name, "total") for name in (HALF, OTHER))
    local = one.agreement(SECOND, "response")
    return (
        f"the reference ({params.reference_steps} SGD steps of {params.step_size:g}) is itself uncertain. Compared "
        f"with it, half the steps have {_text(half)}; as many steps on other batches have {_text(other)}; and the "
        f"response by damped conjugate gradients has cosine {local['cosine']:.2f}."
    )


def _nearest(one: Comparison) -> str:
    by = {name: one.agreement(name, "total") for name in one.estimates if name not in REFERENCES}
    best = max(by, key=lambda name: by[name]["cosine"])
    least = min(by, key=lambda name: by[name]["relative_error"])
    return (
        f"the total nearest to the reference is that of `{best}` by cosine ({by[best]['cosine']:.2f}), and that of "
        f"`{least}` by relative error ({by[least]['relative_error']:.2g})."
    )


def _hypernetwork_and_darts(one: Comparison, part: str) -> str:
    hypernetwork, darts = (one.agreement(name, part) for name in (HYPERNETWORK, DIFFERENCE))
    gap, uncertainty = _gap(one, part), one.agreement(HALF, part)["relative_error"]
    return (
        f"{part}: hypernetwork {_text(hypernetwork)}; DARTS's finite difference {_text(darts)}. The errors differ by "
        f"{gap:.2g}, {'more' if gap > uncertainty else 'less'} than the error of the reference with half its steps "
        f"({uncertainty:.2g}). Without any response, the error is {one.agreement(DIRECT, part)['relative_error']:.2g}."
    )


def _gap(one: Comparison, part: str) -> float:
    """Return the difference of the relative errors of hypernetwork and finite difference."""
    first, second = (one.agreement(name, part)["relative_error"] for name in (HYPERNETWORK, DIFFERENCE))
    return abs(first - second)


def _verdict(comparisons: Sequence[Comparison], part: str) -> str:
    rows = closer(comparisons, HYPERNETWORK, DIFFERENCE, part)
    epochs = ", ".join(str(one.epoch) for one in comparisons)
    cosine, error = (sum(row[key] for row in rows) for key in ("by_cosine", "by_error"))
    if min(cosine, error) == len(rows):
        verdict = "closer to the reference than DARTS's finite difference, whichever of four is used"
    elif max(cosine, error) == 0:
        verdict = "farther from the reference than DARTS's finite difference, whichever of four is used"
    else:
        verdict = "closer to the reference than DARTS's finite difference or farther, depending on the reference"
    resolved = sum(_gap(one, part) > one.agreement(HALF, part)["relative_error"] for one in comparisons)
    return (
        f"{part.capitalize()} of the hypernetwork: {verdict} (closer by cosine in {cosine}, by relative error in "
        f"{error} of {len(rows)} comparisons: epochs {epochs}, 4 references each). The difference is larger than the "
        f"uncertainty of the reference at {resolved} of {len(comparisons)} snapshots, all of one search."
    )
