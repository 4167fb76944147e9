"""Verdicts on the thesis's claims, computed from the runs of a study by stated rules; no verdict is typed.

`thesis/claims.csv` has one row per claim: the sentence, its line in the thesis, a rule (claims.rules) and what it
is applied to. Runs smaller than the thesis's can only speak at mini scale.
"""

import shlex

import pandas as pd

from hdarts.workbook.claims.evidence import Evidence, NotRun, read_evidence
from hdarts.workbook.claims.finding import CONTRADICTED, LEVEL, NOT_RUN, SUPPORTED, UNDECIDED, Effect, Finding
from hdarts.workbook.claims.rules import RULES
from hdarts.workbook.claims.summaries import accuracy_and_cost, best_of_n, intervals, text_table, with_links
from hdarts.workbook.claims.thesis import table

__all__ = [
    "CONTRADICTED",
    "LEVEL",
    "NOT_RUN",
    "SUPPORTED",
    "UNDECIDED",
    "Effect",
    "Finding",
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
    """Return the claims of the thesis with what a study says of them.

    Columns: id, claim, verdict, result, ran, line, runs (names, a space between them).
    """
    rows = []
    for row in table("claims").fillna("").to_dict("records"):
        found = assess(evidence, row["rule"], row["of"])
        rows.append({"id": row["id"], "claim": row["claim"], "verdict": found.verdict, "result": found.result})
        rows[-1] |= {"ran": found.ran, "line": row["line"], "runs": " ".join(found.runs)}
    return pd.DataFrame(rows)


def assess(evidence: Evidence, rule: str, of: str) -> Finding:
    """Return what a rule finds with the arguments `of`, as `a b want=higher`; names with blanks stand in quotes.

    A decided verdict from runs smaller than the thesis's is one at mini scale. Raises ValueError for an unknown rule.
    """
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is not one of {', '.join(RULES)}")
    words = shlex.split(of)
    named = dict(word.split("=", 1) for word in words if "=" in word)
    try:
        found = RULES[rule](evidence, *(word for word in words if "=" not in word), **named)
    except NotRun as missing:
        return Finding("", f"missing: {missing}", NOT_RUN, ())
    mini = found.verdict in (SUPPORTED, CONTRADICTED) and not evidence.full_scale(found.runs)
    return Finding(found.ran, found.result, f"{found.verdict} at mini scale", found.runs) if mini else found
