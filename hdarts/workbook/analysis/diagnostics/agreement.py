"""What was found at the snapshots, as tables: every method against the reference, whole and edge by edge."""

from collections.abc import Sequence

from hdarts.supernet.layout import agreement
from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.diagnostics.methods import HYPERNETWORK, REFERENCE, REFERENCES, SECOND, Comparison

PARTS = ("total", "direct", "response")


def method_table(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return a row for each epoch, method and part: its norm, cosine and relative error to the reference, its cost.

    `gradients` counts gradients and Hessian-vector products; `note` is what a method warned of.
    """
    return [
        {
            "epoch": comparison.epoch,
            "method": method,
            "part": part,
            **agreement(found.part(part), comparison.estimates[REFERENCE].part(part)),
            "norm": float(found.part(part).norm()),
            "seconds": found.hypergradient.info["seconds"],
            "gradients": found.gradients,
            "note": found.note,
        }
        for comparison in comparisons
        for method, found in comparison.estimates.items()
        for part in PARTS
    ]


def part_table(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return a row for each epoch and method: norm of both parts and the cosine between them.

    `along_ones` is the share of the response that moves all operations of an edge alike, which softmax does not see:
    the norm of that component over the norm of the response. It is 0 for every method that works on w; a hypernetwork
    is fed alpha itself, and there it is not.
    """
    rows = []
    for comparison in comparisons:
        for method, found in comparison.estimates.items():
            direct, response = found.part("direct"), found.part("response")
            norms = {"direct": float(direct.norm()), "response": float(response.norm())}
            common = float(response.mean(-1, keepdim=True).expand_as(response).norm())
            share = common / norms["response"] if norms["response"] > 0 else float("nan")
            between = agreement(response, direct)["cosine"]
            rows.append({"epoch": comparison.epoch, "method": method, **norms, "cosine": between, "along_ones": share})
    return rows


def second_opinions(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the agreement of every method with each of the four references: T, T/2, other batches, damped local.

    The local one has the response of conjugate gradients and the direct part at the snapshot's own weights.
    """
    opinions = (*REFERENCES, SECOND)
    return [
        {
            "epoch": comparison.epoch,
            "opinion": opinion,
            "method": method,
            "part": part,
            **agreement(found.part(part), comparison.estimates[opinion].part(part)),
        }
        for comparison in comparisons
        for opinion in opinions
        for method, found in comparison.estimates.items()
        if method not in opinions
        for part in PARTS
    ]


def edge_table(comparisons: Sequence[Comparison]) -> list[Row]:
    """Return the agreement of every method's total with the reference, edge by edge."""
    return [
        {
            "epoch": comparison.epoch,
            "method": method,
            "kind": kind,
            "edge": f"{source}-{node}",
            **agreement(found.part("total")[k, e], comparison.estimates[REFERENCE].part("total")[k, e]),
            "norm": float(found.part("total")[k, e].norm()),
        }
        for comparison in comparisons
        for method, found in comparison.estimates.items()
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
