"""The rules that test claims on interference on what notebook 10 measured; a pair is two sources of one run."""

from collections.abc import Sequence

import numpy as np

from hdarts.workbook.analysis import Row
from hdarts.workbook.analysis.statistics import rank_correlation
from hdarts.workbook.claims.evidence import Evidence, NotRun, grouped, matching, measured
from hdarts.workbook.claims.finding import NOT_DECIDABLE, Finding, combine, paired, too_few
from hdarts.workbook.claims.rules import price

MEASURE = "excess inner loss of a cell over its own optimum, nats"


def less_interference(evidence: Evidence, sources: Sequence[str], than: str) -> Finding:
    """Is the excess loss of cells with the weights of each source lower than with those of another? Over runs."""
    return combine([_compared(evidence, source, than, _excess(evidence, than)) for source in sources])


def no_interference(evidence: Evidence, sources: Sequence[str]) -> Finding:
    """Is the excess loss of each source below the distance of two trainings of the cell alone? Over runs."""
    gaps = {row["run"]: float(row["uncertainty"]) for row in _rows(evidence)}
    name = "the distance of two trainings of a cell alone"
    return combine([_compared(evidence, source, name, gaps) for source in sources])


def less_with_capacity(evidence: Evidence) -> Finding:
    """Does the excess loss fall with the weights of global hypernetworks? Spearman within each run, mean over forms."""
    effects: dict[str, float] = {}
    runs = grouped(measured(_rows(evidence), ["form", "weights", "excess"], "hypernetworks"), "run")
    for run, rows in runs.items():
        forms = [(x, y) for x, y in map(_columns, grouped(rows, "form").values()) if len(set(x)) > 1]
        found = [rank_correlation(x, y).value if len(set(y)) > 1 else 0.0 for x, y in forms]
        if found:
            effects[run] = sum(found) / len(found)
    if not effects:
        raise NotRun("notebook 10 with several sizes of a hypernetwork")
    name = f"Spearman's ρ of the {MEASURE}, with the weights of a hypernetwork, mean over forms and runs"
    return _lower(name, "", [*effects.values()], [runs[run][0] for run in effects])


def _columns(rows: list[Row]) -> tuple[list[float], list[float]]:
    return [float(row["weights"]) for row in rows], [float(row["excess"]) for row in rows]


def _rows(evidence: Evidence) -> list[Row]:
    if not evidence.interference:
        raise NotRun("notebook 10 was not run")
    return evidence.interference


def _excess(evidence: Evidence, source: str) -> dict[str, float]:
    rows = measured(matching(_rows(evidence), source=source), ["excess"], source)
    return {row["run"]: float(row["excess"]) for row in rows}


def _compared(evidence: Evidence, source: str, name: str, other: dict[str, float]) -> Finding:
    first = {row["run"]: row for row in matching(_rows(evidence), source=source) if row["run"] in other}
    values = _excess(evidence, source)
    return _lower(f"{source} - {name}", f" [{MEASURE}]", [values[run] - other[run] for run in first], [*first.values()])


def _lower(name: str, unit: str, values: list[float], rows: list[Row]) -> Finding:
    """Return the finding on the claim that values, one per run, are below 0; `rows`: the runs, in the same order."""
    effect, runs = paired(values), tuple(row["run"] for row in rows)
    verdict = effect.decide("lower")
    needs = price(np.array(values), abs(effect.value), rows, "measured") if verdict == NOT_DECIDABLE else ""
    text = f"{name}: {effect}{unit}.{too_few(effect.n)}"
    return Finding(f"notebook 10: {len(runs)} runs", text, verdict, runs, (effect.p,), needs)
