"""Claims on interference are decided by what notebook 10 measured, in both directions."""

import math
from functools import partial

import pandas as pd
import pytest
from helpers.results import MadeUpStudy

from hdarts.workbook.analysis.statistics import pairs_needed, smallest_difference
from hdarts.workbook.claims import assess
from hdarts.workbook.claims.evidence import Evidence, read_evidence
from hdarts.workbook.claims.interference import less_interference, less_with_capacity, no_interference


def measured(runs: int = 6, **sources: float) -> Evidence:
    """The excess of each source, a little different in each run; two trainings of a cell are 0.1 apart."""
    rows = [
        {"run": f"interference/{n}", "source": name, "excess": value + n / 1000, "uncertainty": 0.1}
        for n in range(runs)
        for name, value in sources.items()
    ]
    return Evidence("interference", [], [], [], "small", rows)


@pytest.mark.parametrize(("a", "verdict"), [(0.2, "supported at mini scale"), (0.8, "contradicted at mini scale")])
def test_less_interference_is_a_lower_excess_in_the_same_runs(a: float, verdict: str) -> None:
    known = measured(a=a, b=0.5)
    paired_values = [row | {"excess": row["excess"] + 0.001 * int(row["run"][-1]) ** 2} for row in known.interference]
    known = Evidence("interference", [], [], [], "small", paired_values)
    finding = assess(known, partial(less_interference, sources=("a",), than="b"))
    assert finding.verdict == verdict and finding.ran == "notebook 10: 6 runs" and len(finding.runs) == 6


def test_five_runs_and_missing_ones_decide_nothing() -> None:
    rule = partial(less_interference, sources=("a",), than="b")
    assert "cannot go below" in assess(measured(5, a=0.1, b=0.5), rule).result
    assert assess(measured(5, a=0.1, b=0.5), rule).verdict == "not decidable here"
    assert "notebook 10 was not run" in assess(Evidence("x", [], [], []), rule).result
    assert "c" in assess(measured(a=0.1, b=0.5), partial(rule, than="c")).result


def test_what_is_not_decided_says_what_would_decide_it() -> None:
    excess = [0.3, 0.1, 0.2, 0.0, 0.1, 0.1]
    rows = [
        {"run": f"r/{n}", "source": source, "excess": value, "seconds": 1800.0}
        for n, more in enumerate(excess)
        for source, value in (("a", 0.4), ("b", 0.3 + more))
    ]
    differences = [0.1 - more for more in excess]
    needed = pairs_needed(differences, sum(differences) / 6)
    rule = partial(less_interference, sources=("a",), than="b")
    finding = assess(Evidence("x", [], [], [], "", rows), rule)
    assert finding.verdict == "not decidable here" and needed is not None and needed > 20
    shown = f"6 pairs with this spread show differences from {smallest_difference(differences):.3g} on."
    cost = f"The measured 0.0333 needs {needed} pairs, {(needed - 6) / 2:.1f} more hours of runs here."
    assert finding.needs == f"{shown} {cost}"
    assert assess(measured(a=0.1, b=0.5), rule).needs == ""
    without_times = [row | {"seconds": math.nan} for row in rows]
    assert assess(Evidence("x", [], [], [], "", without_times), rule).needs.endswith(f"needs {needed} pairs.")


@pytest.mark.parametrize(
    ("a", "b", "verdict"), [(0.01, 0.02, "supported"), (0.01, 0.5, "contradicted"), (0.09, 0.01, "not decidable here")]
)
def test_interference_is_eliminated_below_the_distance_of_two_trainings(a: float, b: float, verdict: str) -> None:
    rows = [row | {"excess": row["excess"] + 0.03 * (-1) ** int(row["run"][-1])} for row in measured(a=a).interference]
    known = Evidence("x", [], [], [], "small", rows + measured(b=b).interference)
    finding = assess(known, partial(no_interference, sources=("a", "b")))
    assert finding.verdict.removesuffix(" at mini scale") == verdict


@pytest.mark.parametrize(("slope", "verdict"), [(-1, "supported"), (1, "contradicted"), (0, "not decidable here")])
def test_capacity_is_compared_within_forms_and_runs(slope: int, verdict: str) -> None:
    rows = [
        {"run": f"r/{n}", "form": form, "weights": size, "excess": base + slope * size, "uncertainty": 0.1}
        for n in range(6)
        for form, base in (("MLP", 50.0), ("graph", 0.0))
        for size in (1, 4, 16)
    ]
    finding = assess(Evidence("x", [], [], [], "", rows), less_with_capacity)
    assert finding.verdict.removesuffix(" at mini scale") == verdict


def test_the_evidence_of_a_study_has_the_sources_of_notebook_10(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    sources = [{"source": "a", "excess": 0.5, "uncertainty": 0.1}, {"form": "MLP", "weights": 7, "excess": 0.25}]
    tables: dict[str, list[dict]] = {"sources": sources, "timings": [{"seconds": 40.0}]}
    study.add("interference", "one", {"cells": 2}, params={"seed": 0}, tables=tables, notebook="10_interference")
    rows = read_evidence("mine").interference
    assert {row["seconds"] for row in rows} == {40.0}
    assert [row["excess"] for row in rows] == [0.5, 0.25] and {row["run"] for row in rows} == {"mine/interference/one"}
    assert pd.isna(rows[0]["weights"])
