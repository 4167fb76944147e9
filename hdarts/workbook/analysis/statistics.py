"""Statistics of a few runs: estimates with intervals, exact tests, and what so few seeds cannot show."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy  # its parts are imported where they are used: each takes a while
from numpy.typing import ArrayLike

CONFIDENCE = 0.95  # of all intervals
LEAST = 3  # values of a t interval
RESAMPLES = 2**20  # a paired test of up to 20 pairs enumerates all sign flips
SHARES = 20_000  # an unpaired test enumerates up to this many divisions of the values


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
    """Result of a sign-flip test: mean difference a - b, two-sided `p`, and the smallest possible `p` of `n` pairs."""

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
    """Return mean, sample standard deviation (n - 1), 95 % t interval of the mean, smallest and largest value.

    Student's t interval assumes values that are about normal. Fewer than 3 values have no interval, one value no
    deviation (nan). Raises ValueError for no values, or for values that are not finite.

    >>> result = summary([97.0, 97.4, 98.0])
    >>> f"{result.mean:.2f} ({result.deviation:.2f}), n = {result.n}, interval {result.low:.1f} to {result.high:.1f}"
    '97.47 (0.50), n = 3, interval 96.2 to 98.7'
    """
    x = _finite(values, "values")
    n = len(x)
    deviation = float(x.std(ddof=1)) if n > 1 else math.nan
    low = high = math.nan
    if n >= LEAST:
        low, high = (float(x.mean() + t * deviation / n**0.5) for t in scipy.stats.t.interval(CONFIDENCE, n - 1))
    return Summary(n, float(x.mean()), deviation, low, high, float(x.min()), float(x.max()))


def paired_test(a: ArrayLike, b: ArrayLike) -> PairedTest:
    """Return the two-sided sign-flip permutation test of the mean difference of pairs, one pair per seed.

        p = share of the 2^n sign vectors s with |sum s_i (a_i - b_i)| >= |sum (a_i - b_i)|

    Under the null hypothesis each difference is as likely to be its negative (Fisher, 1935). Exact for up to 20 pairs;
    for more, scipy draws 2^20 sign vectors with a fixed seed. Raises ValueError for unequal lengths, no pairs, or
    values that are not finite.

    Three pairs that all favour a are not significant, because no three pairs can be:

    >>> result = paired_test([97.0, 97.5, 98.0], [96.0, 96.5, 97.5])
    >>> result.p, result.smallest_p
    (0.25, 0.25)
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    if len(x) != len(y):
        raise ValueError(f"a paired test needs one b for each a; there are {len(x)} and {len(y)}")
    n, differences = len(x), x - y
    p = 1.0 if n == 1 else _permutation_p((differences,), lambda d, axis: d.mean(axis), "samples", RESAMPLES)
    return PairedTest(float(differences.mean()), p, n, smallest_p(n))


def unpaired_test(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Return the mean difference a - b and the two-sided p of the permutation test of two independent samples.

    Exact for up to 20,000 divisions of the values into two samples; for more, scipy draws as many, with a fixed seed.
    Raises ValueError for fewer than two values in a sample, or values that are not finite.
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    p = _permutation_p((x, y), lambda u, v, axis: u.mean(axis) - v.mean(axis), "independent", SHARES)
    return float(x.mean() - y.mean()), p


def _permutation_p(data: tuple[np.ndarray, ...], statistic: Callable[..., Any], kind: str, resamples: int) -> float:
    result = scipy.stats.permutation_test(
        data,
        statistic,
        permutation_type=kind,
        vectorized=True,
        n_resamples=resamples,
        batch=2**14,  # bounds the memory
        rng=np.random.default_rng(0),
    )
    return float(result.pvalue)


def unpaired_interval(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Return Welch's 95 % t interval of the mean of a minus that of b, independent samples of unequal variance.

    Samples with fewer than 3 values have no interval: both ends are nan. Raises ValueError for no values, or values
    that are not finite.
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    if min(len(x), len(y)) < LEAST:
        return math.nan, math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy warns where all values of a sample are equal
        interval = scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval(CONFIDENCE)
    return float(interval.low), float(interval.high)


def expected_maximum(values: ArrayLike, n: int) -> float:
    """Return the expected maximum of `n` of the values, drawn without replacement: what best-of-n gives by chance.

        sum_i C(i - 1, n - 1) x_(i) / C(m, n)        x_(1) <= ... <= x_(m)

    since the i-th smallest is the largest of that many of the C(m, n) choices. Raises ValueError unless 1 <= n <= m.
    """
    x = np.sort(_finite(values, "values"))
    if not 1 <= n <= len(x):
        raise ValueError(f"the best of {n} cannot be drawn from {len(x)} values")
    weights = [math.comb(i, n - 1) for i in range(len(x))]
    return float(weights @ x / math.comb(len(x), n))


def proportion(count: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of Clopper and Pearson (1934) of the share that `count` of `n` estimates."""
    if not 0 <= count <= n or n < 1:
        raise ValueError(f"{count} of {n} is not a proportion")
    interval = scipy.stats.binomtest(count, n).proportion_ci(CONFIDENCE, "exact")
    return float(interval.low), float(interval.high)


def smallest_p(n: int) -> float:
    """Return the smallest two-sided p that a sign-flip test of `n` pairs can give, 2 / 2^n: 0.125 for 4."""
    if n < 1:
        raise ValueError(f"n = {n}: a paired test needs at least 1 pair")
    return 2.0 ** (1 - n)


def what_n_can_show(n: int, level: float = 0.05) -> str:
    """Return one sentence on the smallest p that `n` paired seeds can reach."""
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

    with q the normal quantile. So that a perfect order of a few runs does not give an interval of width 0, |r| is at
    most 1 minus half the step between two possible values. No interval (nan) for up to 4 pairs; all nan where x or y is
    constant.
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
    clipped = max(-1 + step / 2, min(1 - step / 2, r))
    deviation = math.sqrt((1 + clipped**2 / 2) / (n - 3) if method == "spearman" else 0.437 / (n - 4))
    half = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * deviation
    low, high = math.tanh(math.atanh(clipped) - half), math.tanh(math.atanh(clipped) + half)
    return Correlation(method, r, low, high, p, n)


def _finite(values: ArrayLike | Sequence[float], name: str) -> np.ndarray:
    x = np.asarray(values, dtype=float).reshape(-1)
    if len(x) == 0:
        raise ValueError(f"{name}: there are no values")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: {int((~np.isfinite(x)).sum())} of {len(x)} values are not finite")
    return x
