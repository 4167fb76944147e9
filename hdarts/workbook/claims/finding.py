"""From numbers to a verdict: an effect, the rule that decides, and the finding."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hdarts.workbook.analysis.statistics import paired_test, smallest_p, summary, what_n_can_show

LEVEL = 0.05
SUPPORTED, CONTRADICTED, ABSENT = "supported", "contradicted", "not of the stated size"
NOT_DECIDABLE, NOT_RUN = "not decidable here", "not run here"
Want = Literal["higher", "lower"]


@dataclass(frozen=True)
class Effect:
    """An estimate that is 0 without an effect, its 95 % interval (`by`) and two-sided p, from `n` independent runs."""

    value: float
    low: float
    high: float
    p: float
    n: int
    by: str = "t interval"

    def decide(self, want: Want, stated: float = math.inf) -> str:
        """Return the verdict on the claim that the effect is above (below) 0, by about `stated` in the source.

        Decided only where the interval excludes 0 *and* p < 0.05: the t interval assumes normal differences, and the
        exact test of fewer than 6 pairs cannot go below 0.05 at all.
        """
        if not (self.p < LEVEL and (self.low > 0 or self.high < 0)):
            largest = self.high if want == "higher" else -self.low
            return ABSENT if largest < stated < math.inf else NOT_DECIDABLE
        return SUPPORTED if (self.value > 0) == (want == "higher") else CONTRADICTED

    def __str__(self) -> str:
        interval = "no interval" if math.isnan(self.low) else f"95 % {self.by} {self.low:+.3g} to {self.high:+.3g}"
        return f"{self.value:+.3g} ({interval}, p = {self.p:.2g}, n = {self.n})"


@dataclass(frozen=True)
class Finding:
    """The result for a claim: what was run, the result, the verdict, the names of the runs, and the p of each test.

    `needs`: why the runs could not decide, and the price of runs that could.
    """

    ran: str
    result: str
    verdict: str
    runs: tuple[str, ...]
    p: tuple[float, ...] = ()
    needs: str = ""


def paired(differences: ArrayLike) -> Effect:
    """Return the effect of paired differences, one per search, with t interval and sign-flip test."""
    x = np.asarray(differences, dtype=float)
    mean = summary(x)
    return Effect(mean.mean, mean.low, mean.high, paired_test(x, np.zeros(len(x))).p, len(x))


def too_few(n: int) -> str:
    """Return a sentence that `n` pairs are too few for any decision, or ""."""
    return f" {what_n_can_show(n, LEVEL)}" if smallest_p(n) >= LEVEL else ""


def joint_verdict(verdicts: Iterable[str]) -> str:
    """Return the verdict on a claim of several parts, all of which have to be true."""
    parts = set(verdicts)
    return next((verdict for verdict in (CONTRADICTED, ABSENT, NOT_DECIDABLE) if verdict in parts), SUPPORTED)


def combine(findings: list[Finding]) -> Finding:
    """Return the finding on a claim of several parts, all of which have to be true."""
    runs = dict.fromkeys(run for finding in findings for run in finding.runs)
    ran, result = (
        "; ".join(dict.fromkeys(words)) for words in zip(*((f.ran, f.result) for f in findings), strict=True)
    )
    p = tuple(p for finding in findings for p in finding.p)
    needs = " ".join(dict.fromkeys(finding.needs for finding in findings if finding.needs))
    return Finding(ran, result, joint_verdict(finding.verdict for finding in findings), tuple(runs), p, needs)
