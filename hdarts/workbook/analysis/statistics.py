"""Statistics of a few runs: what was seen, how sure it is, and what so few seeds cannot show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Literal

import numpy as np
import scipy  # its parts are imported where they are used: each takes a while
from numpy.typing import ArrayLike

CONFIDENCE = 0.95  # of all intervals
EXACT_BOOTSTRAP = 9  # up to this number of values all resamples are counted: C(17, 9) = 24,310 multisets
EXACT_TEST = 20  # up to this number of pairs all 2^n sign flips are counted


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation, interval of the mean, smallest and largest of `n` values."""

    n: int
    mean: float
    deviation: float
    low: float
    high: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class PairedTest:
    """Result of an exact sign-flip test: mean difference a - b, two-sided `p`, and the least `p` of `n` pairs."""

    difference: float
    p: float
    n: int
    smallest_p: float


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its interval and two-sided `p`; nan where it is not defined."""

    method: str
    value: float
    low: float
    high: float
    p: float
    n: int

    def __str__(self) -> str:
        symbol = {"spearman": "Spearman ρ", "kendall": "Kendall τ"}[self.method]
        if math.isnan(self.value):
            return f"{symbol} is not defined for these {self.n} runs"
        interval = f"{CONFIDENCE:.0%} interval {self.low:.2f} to {self.high:.2f}"
        return f"{symbol} = {self.value:.2f} ({'no interval' if math.isnan(self.low) else interval}, n = {self.n})"


def summary(values: ArrayLike) -> Summary:
    """Return mean, sample standard deviation (n - 1), 95 % bootstrap interval of the mean, smallest and largest value.

    The interval is the percentile bootstrap's (Efron, 1979). For up to 9 values it is exact, over all n^n resamples;
    for more it is scipy's with a fixed seed. With few runs it is too narrow (at n = 4 its extremes are the extremes of
    the data): it shows the spread of what was run, not what another seed might do. One value has neither
    deviation nor interval (nan). Raises ValueError for no values, or for values that are not finite.

    >>> told = summary([97.0, 97.4, 98.0])
    >>> f"{told.mean:.2f} ({told.deviation:.2f}), n = {told.n}, interval {told.low:.1f} to {told.high:.1f}"
    '97.47 (0.50), n = 3, interval 97.0 to 98.0'
    """
    x = _finite(values, "values")
    n = len(x)
    low, high = _bootstrap(x) if n > 1 else (math.nan, math.nan)
    deviation = float(x.std(ddof=1)) if n > 1 else math.nan
    return Summary(n, float(x.mean()), deviation, low, high, float(x.min()), float(x.max()))


def _bootstrap(x: np.ndarray) -> tuple[float, float]:
    n = len(x)
    tail = (1 - CONFIDENCE) / 2
    if n > EXACT_BOOTSTRAP:
        generator = np.random.default_rng(0)
        result = scipy.stats.bootstrap(
            (x,), np.mean, confidence_level=CONFIDENCE, method="percentile", n_resamples=20_000, rng=generator
        )
        return float(result.confidence_interval.low), float(result.confidence_interval.high)
    # a resample is a multiset of the n values; n! / prod(count!) of the n^n ordered resamples give the same one
    picks = np.array(list(combinations_with_replacement(range(n), n)))
    counts = (picks[:, :, None] == np.arange(n)).sum(1)
    factorial = np.array([math.factorial(count) for count in range(n + 1)], dtype=float)
    probability = factorial[n] / factorial[counts].prod(1) / float(n) ** n
    means = counts @ x / n
    order = means.argsort(kind="stable")
    below = probability[order].cumsum()
    ends = [order[min(np.searchsorted(below, share - 1e-12), len(order) - 1)] for share in (tail, 1 - tail)]
    return float(means[ends[0]]), float(means[ends[1]])


def paired_test(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Return the exact two-sided sign-flip permutation test of the mean difference of pairs (one pair a seed).

        p = share of the 2^n sign vectors s with |sum s_i (a_i - b_i)| >= |sum (a_i - b_i)|

    Under the null hypothesis each difference is as likely to be its negative (Fisher, 1935). Raises ValueError for
    unequal lengths, no pairs, more than 20 pairs, or values that are not finite.

    Three pairs that all speak for a are not significant, for no three pairs can be:

    >>> found = paired_test([97.0, 97.5, 98.0], [96.0, 96.5, 97.5])
    >>> found.p, found.smallest_p
    (0.25, 0.25)
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    if len(x) != len(y):
        raise ValueError(f"a paired test needs one b for each a; there are {len(x)} and {len(y)}")
    n = len(x)
    if n > EXACT_TEST:
        raise ValueError(f"the exact test enumerates 2^n sign flips; {n} pairs are more than {EXACT_TEST}")
    differences = x - y
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    tolerance = 1e-12 * np.abs(differences).sum()  # sums that are equal but for rounding count as equal
    p = float(np.mean(np.abs(sums) >= abs(differences.sum()) - tolerance))
    return PairedTest(float(differences.mean()), p, n, smallest_p(n))


def unpaired_test(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Return the mean difference a - b and the two-sided p of the permutation test of two independent samples.

    All ways to share out the values are counted up to 20,000 of them; beyond, scipy draws as many with a fixed seed.
    Raises ValueError for fewer than two values of a sample, or values that are not finite.
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    result = scipy.stats.permutation_test(
        (x, y),
        lambda u, v, axis: u.mean(axis) - v.mean(axis),
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    return float(x.mean() - y.mean()), float(result.pvalue)


def unpaired_interval(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of a less that of b, independent samples (fixed seed).

    It is too narrow for few values, as that of `summary`. One value has no interval: both ends are nan.
    Raises ValueError for no values, or values that are not finite.
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    if min(len(x), len(y)) < 2:
        return math.nan, math.nan
    result = scipy.stats.bootstrap(
        (x, y),
        lambda u, v, axis: u.mean(axis) - v.mean(axis),
        confidence_level=CONFIDENCE,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def expected_maximum(values: ArrayLike, n: int) -> float:
    """Return the expected maximum of `n` of the values, drawn without putting back: what best-of-n brings by chance.

        sum_i C(i - 1, n - 1) x_(i) / C(m, n)        x_(1) <= ... <= x_(m)

    since in so many of the C(m, n) choices the i-th smallest is the largest. Raises ValueError unless 1 <= n <= m.
    """
    x = np.sort(_finite(values, "values"))
    if not 1 <= n <= len(x):
        raise ValueError(f"the best of {n} cannot be drawn from {len(x)} values")
    weights = [math.comb(i, n - 1) for i in range(len(x))]
    return float(weights @ x / math.comb(len(x), n))


def proportion(count: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of Clopper and Pearson (1934) of a share of which `count` of `n` were seen."""
    if not 0 <= count <= n or n < 1:
        raise ValueError(f"{count} of {n} is no share")
    interval = scipy.stats.binomtest(count, n).proportion_ci(CONFIDENCE, "exact")
    return float(interval.low), float(interval.high)


def smallest_p(n: int) -> float:
    """Return the least two-sided p that an exact sign-flip test of `n` pairs can give, 2 / 2^n: 0.125 for 4."""
    if n < 1:
        raise ValueError(f"n = {n}: a paired test needs at least 1 pair")
    return 2.0 ** (1 - n)


def what_n_can_show(n: int, level: float = 0.05) -> str:
    """Return one sentence on what `n` paired seeds can show at all."""
    least = smallest_p(n)
    pairs = f"{n} paired seed{'s' if n > 1 else ''}"
    if least < level:
        return f"With {pairs} an exact two-sided test can reach p = {least:.3g}, if all differences have the same sign."
    needed = next(more for more in range(n, 64) if smallest_p(more) < level)
    return (
        f"With {pairs} an exact two-sided test cannot go below p = {least:.3g}, however large the difference: "
        f"p < {level:g} needs at least {needed}."
    )


def rank_correlation(x: ArrayLike, y: ArrayLike, method: Literal["spearman", "kendall"] = "spearman") -> Correlation:
    """Return Spearman's rho or Kendall's tau-b (scipy) with a 95 % interval by Fisher's z.

        tanh(arctanh(r) -+ q s),   s^2 = (1 + r^2 / 2) / (n - 3) for rho (Bonett and Wright, 2000),
                                   s^2 = 0.437 / (n - 4) for tau (Fieller, Hartley and Pearson, 1957)

    with q the normal quantile. A perfect order of few runs is no certainty: for the interval |r| is at most 1 less half
    the step between two values that it can take. No interval (nan) up to 4 pairs; all nan where x or y is constant.
    """
    u, v = _finite(x, "x"), _finite(y, "y")
    if len(u) != len(v):
        raise ValueError(f"a rank correlation needs one y for each x; there are {len(u)} and {len(v)}")
    n = len(u)
    if n < 2 or np.ptp(u) == 0 or np.ptp(v) == 0:
        return Correlation(method, math.nan, math.nan, math.nan, math.nan, n)
    result: Any = scipy.stats.spearmanr(u, v) if method == "spearman" else scipy.stats.kendalltau(u, v)
    r, p = float(result.statistic), float(result.pvalue)
    if n <= 4:
        return Correlation(method, r, math.nan, math.nan, p, n)
    step = 12 / (n * (n * n - 1)) if method == "spearman" else 4 / (n * (n - 1))
    held = max(-1 + step / 2, min(1 - step / 2, r))
    deviation = math.sqrt((1 + held**2 / 2) / (n - 3) if method == "spearman" else 0.437 / (n - 4))
    half = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * deviation
    low, high = math.tanh(math.atanh(held) - half), math.tanh(math.atanh(held) + half)
    return Correlation(method, r, low, high, p, n)


def _finite(values: ArrayLike | Sequence[float], name: str) -> np.ndarray:
    x = np.asarray(values, dtype=float).reshape(-1)
    if len(x) == 0:
        raise ValueError(f"{name}: there are no values")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: {int((~np.isfinite(x)).sum())} of {len(x)} values are not finite")
    return x
