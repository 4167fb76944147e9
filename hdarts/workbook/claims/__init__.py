"""Verdicts on the thesis's claims, computed from the runs of a study by stated rules; none is written by hand.

`claims.py` lists the claims: the sentence, its line in the thesis, and the rule that tests it. Verdicts from runs
smaller than the thesis's are marked "at mini scale".
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from math import isnan

import pandas as pd

from hdarts.workbook.analysis.statistics import holm
from hdarts.workbook.claims.claims import CLAIMS, Claim
from hdarts.workbook.claims.evidence import Evidence, NotRun, read_evidence
from hdarts.workbook.claims.finding import ABSENT, CONTRADICTED, NOT_DECIDABLE, NOT_RUN, SUPPORTED, Finding
from hdarts.workbook.claims.summaries import accuracy_and_cost, best_of_n, intervals, text_table, with_links

__all__ = [
    "ABOUT",
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

ABOUT = """**What the runs say about the thesis's claims.** A verdict follows from runs by a rule
(`hdarts/workbook/claims/rules.py`), applied as `hdarts/workbook/claims/claims.py` says. *Supported* and *contradicted*
require that the 95 % interval excludes 0 and that the test has p < 0.05: a sign-flip test over search seeds, exact for
up to 16 pairs, or the t test of a rank correlation within arms. Anything else is *not decidable here*, with the reason
in `needs`, and what runs that could decide would cost: fewer than 6 pairs, one selected cell per arm, too much spread,
or searches that had not decided. *Not of the stated size*: the interval excludes what the thesis states. Runs smaller
than the thesis's decide *at mini scale* only. Cells are compared by true accuracy where there is a table of it,
elsewhere by the last epoch's test accuracy, where the thesis has the best epoch's. A verdict is for its claim alone;
`p_holm` says whether it would stand among all tests of this page."""


def verdicts(
    evidence: Evidence,
    more: Mapping[str, float] | None = None,
    unsure: Collection[str] = (),
    asked: Sequence[Claim] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the claims that are `asked` (None: all), the result for each from a study, and all tests of its page.

    Columns of the first: id, claim, verdict, result, needs (why it is not decidable here, and what it would take), p
    and p_holm (of each part, separated by semicolons), ran, line, runs (names with spaces). Of the second: test
    (the id of a claim, or a name of `more`, {name: p}), p, and p_holm, adjusted for all of these tests. A p that is nan
    is no test. `unsure`: arms whose searches did not decide, so that nothing can be said about their cells.
    """
    asked = CLAIMS if asked is None else asked
    findings = {claim.id: _of_decided(claim, assess(evidence, claim.rule), evidence, unsure) for claim in asked}
    all_p = [(name, p) for name, finding in findings.items() for p in finding.p] + list((more or {}).items())
    tests = pd.DataFrame([row for row in all_p if not isnan(row[1])], columns=["test", "p"])
    tests["p_holm"] = holm(list(tests["p"]))
    rows = []
    for claim in asked:
        finding, own = findings[claim.id], tests[tests["test"] == claim.id]
        both = {name: "; ".join(f"{p:.2g}" for p in own[name]) for name in ("p", "p_holm")}
        rows.append({"id": claim.id, "claim": claim.text, "verdict": finding.verdict, "result": finding.result})
        rows[-1] |= {
            "needs": finding.needs,
            **both,
            "ran": finding.ran,
            "line": claim.line,
            "runs": " ".join(finding.runs),
        }
    return pd.DataFrame(rows), tests


def _of_decided(claim: Claim, finding: Finding, evidence: Evidence, unsure: Collection[str]) -> Finding:
    """Return the finding, or that it is not decidable because searches whose cells it compares had not decided."""
    if finding.verdict == NOT_RUN or not claim.of_cells:
        return finding
    read = set(finding.runs)
    involved = claim.arms or dict.fromkeys(row["arm"] for row in evidence.cells if read & {*row["run"].split()})
    if not (arms := [arm for arm in involved if arm in unsure]):
        return finding
    reason = f"Searches of {', '.join(arms)} decided fewer than half of their edges, so their cells are arbitrary."
    return replace(finding, verdict=NOT_DECIDABLE, needs=f"{reason} {finding.needs}".strip())


def assess(evidence: Evidence, rule: Callable[[Evidence], Finding]) -> Finding:
    """Return the finding of a rule; mark a verdict from runs smaller than the thesis's as one at mini scale."""
    try:
        finding = rule(evidence)
    except NotRun as missing:
        return Finding("", f"missing: {missing}", NOT_RUN, ())
    if finding.verdict in (SUPPORTED, CONTRADICTED, ABSENT) and not evidence.full_scale(finding.runs):
        return replace(finding, verdict=f"{finding.verdict} at mini scale")
    return finding
