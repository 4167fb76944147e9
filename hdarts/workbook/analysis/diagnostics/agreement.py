"""Tables of the estimates at the snapshots: every method compared with the reference, as a whole and per edge."""

from collections.abc import Sequence

from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.methods import HYPERNETWORK, REFERENCE, REFERENCES, SECOND, Comparison

PARTS = ("total", "direct", "response")


def method_table(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return one row per epoch, method and part: norm, cosine and relative error to the reference, and cost.

    `gradients` counts gradients and Hessian-vector products; `note` has the method's warnings.
    """
    return [
        {
            "epoch": comparison.epoch,
            "method": method,
            "part": part,
            **comparison.agreement(method, part),
            "norm": float(estimate.part(part).norm()),
            "seconds": estimate.hypergradient.info["seconds"],
            "gradients": estimate.gradients,
            "note": estimate.note,
        }
        for comparison in comparisons
        for method, estimate in comparison.estimates.items()
        for part in PARTS
    ]


def part_table(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return one row per epoch and method: norms of both parts and the cosine between them.

    `along_ones` is the share of the response that changes all operations of an edge equally, which softmax ignores: the
    norm of that component over the norm of the response. It is 0 for every method that works on w, but not for a
    hypernetwork, whose input is alpha itself.
    """
    rows = []
    for comparison in comparisons:
        for method, estimate in comparison.estimates.items():
            direct, response = estimate.part("direct"), estimate.part("response")
            norms = {"direct": float(direct.norm()), "response": float(response.norm())}
            common = float(response.mean(-1, keepdim=True).expand_as(response).norm())
            share = common / norms["response"] if norms["response"] > 0 else float("nan")
            between = agreement(response, direct)["cosine"]
            rows.append({"epoch": comparison.epoch, "method": method, **norms, "cosine": between, "along_ones": share})
    return rows


def second_opinions(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the agreement of every method with each of four references: T, T/2, other batches, damped local.

    The local one has the response of conjugate gradients and the direct part at the snapshot's weights.
    """
    opinions = (*REFERENCES, SECOND)
    return [
        {
            "epoch": comparison.epoch,
            "opinion": opinion,
            "method": method,
            "part": part,
            **comparison.agreement(method, part, opinion),
        }
        for comparison in comparisons
        for opinion in opinions
        for method in comparison.estimates
        if method not in opinions
        for part in PARTS
    ]


def edge_table(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the agreement of each method's total with the reference, one row per edge."""
    return [
        {
            "epoch": comparison.epoch,
            "method": method,
            "kind": kind,
            "edge": f"{source}-{node}",
            **agreement(estimate.part("total")[k, e], comparison.estimates[REFERENCE].part("total")[k, e]),
            "norm": float(estimate.part("total")[k, e].norm()),
        }
        for comparison in comparisons
        for method, estimate in comparison.estimates.items()
        if method != REFERENCE
        for k, kind in enumerate(comparison.space.kinds)
        for e, (source, node) in enumerate(comparison.space.edges)
    ]


def closer(comparisons: Sequence[Comparison], method: str, than: str, part: str) -> list[Row]:
    """Return, for each epoch and reference, whether `method` is closer to it than the method `than` is.

    Columns `by_cosine` and `by_error`; epochs without `method` are left out.
    """
    rows = [row for row in second_opinions(comparisons) if row["part"] == part]
    of = {(row["epoch"], row["opinion"], row["method"]): row for row in rows}
    return [
        {
            "epoch": epoch,
            "opinion": opinion,
            "by_cosine": row["cosine"] > of[epoch, opinion, than]["cosine"],
            "by_error": row["relative_error"] < of[epoch, opinion, than]["relative_error"],
        }
        for (epoch, opinion, name), row in of.items()
        if name == method
    ]


def has_hypernetwork(comparisons: Sequence[Comparison]) -> bool:
    """Whether the weights of the search are generated."""
    return all(HYPERNETWORK in comparison.estimates for comparison in comparisons)
