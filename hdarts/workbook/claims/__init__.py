"""Verdicts on the thesis's claims, computed from the runs of a study by stated rules; none is written by hand.

`claims.py` lists the claims: the sentence, its line in the thesis, and the rule that tests it. Verdicts from runs
smaller than the thesis's are marked "at mini scale".
"""

from collections.abc import Callable

import pandas as pd

from hdarts.workbook.claims.claims import CLAIMS
from hdarts.workbook.claims.evidence import Evidence, NotRun, read_evidence
from hdarts.workbook.claims.finding import CONTRADICTED, NOT_RUN, SUPPORTED, Finding
from hdarts.workbook.claims.summaries import accuracy_and_cost, best_of_n, intervals, text_table, with_links

__all__ = [
    "CLAIMS",
    "accuracy_and_cost",
    "assess",
    "best_of_n",
    "intervals",
    "read_evidence",
    "text_table",
    "verdicts",
    "with_links",
]


def verdicts(evidence: Evidence) -> pd.DataFrame:
    """Return the claims of the thesis with the result for each from the runs of a study.

    Columns: id, claim, verdict, result, ran, line, runs (names, separated by spaces).
    """
    rows = []
    for claim in CLAIMS:
        finding = assess(evidence, claim.rule)
        rows.append({"id": claim.id, "claim": claim.text, "verdict": finding.verdict, "result": finding.result})
        rows[-1] |= {"ran": finding.ran, "line": claim.line, "runs": " ".join(finding.runs)}
    return pd.DataFrame(rows)


def assess(evidence: Evidence, rule: Callable[[Evidence], Finding]) -> Finding:
    """Return the finding of a rule; mark a verdict from runs smaller than the thesis's as one at mini scale."""
    try:
        finding = rule(evidence)
    except NotRun as missing:
        return Finding("", f"missing: {missing}", NOT_RUN, ())
    if finding.verdict in (SUPPORTED, CONTRADICTED) and not evidence.full_scale(finding.runs):
        return Finding(finding.ran, finding.result, f"{finding.verdict} at mini scale", finding.runs)
    return finding
