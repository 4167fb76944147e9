"""Statistics of a few runs: estimates with intervals, exact tests, and what so few seeds cannot show."""

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy  # its parts are imported where they are used: each takes a while
from numpy.typing import ArrayLike

CONFIDENCE = 0.95  # of all intervals
LEAST = 3  # values of a t interval
RESAMPLES = 100_000  # a paired test enumerates up to this many sign vectors: those of 16 pairs


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation, t interval of the mean, smallest and largest of `n` values."""

    n: int
    mean: float
    deviation: float
    low: float
    high: float
    minimum: float
    maximum: float


@dataclass(frozen=True)
class PairedTest:
    """Result of a sign-flip test: mean difference a - b, two-sided p, the smallest possible of n pairs, its name."""

    difference: float
    p: float
    n: int
    smallest_p: float
    method: str


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its interval by Fisher's z and two-sided `p`; nan where it is not defined.

    Of `n` pairs in `groups` groups (1: not grouped).
    """

    method: str
    value: float
    low: float
    high: float
    p: float
    n: int
    groups: int = 1

    def __str__(self) -> str:
        symbol = {"spearman": "Spearman ρ", "kendall": "Kendall τ"}[self.method]
        if math.isnan(self.value):
            return f"{symbol} is not defined: no two runs of one arm differ in both values"
        interval = f"{CONFIDENCE:.0%} interval by Fisher's z {self.low:.2f} to {self.high:.2f}"
        within = f" within {self.groups} arms" if self.groups > 1 else ""
        interval = "no interval" if math.isnan(self.low) else interval
        return f"{symbol}{within} = {self.value:.2f} ({interval}, n = {self.n})"


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
    r"""Return the two-sided sign-flip permutation test of the mean difference of pairs, one pair per seed.

    $$ p = 2^{-n} \, | \{ s \in \{-1, 1\}^n : | \sum_i s_i (a_i - b_i) | \ge | \sum_i (a_i - b_i) | \} | $$

    Under the null hypothesis each difference is as likely to be its negative (Fisher, 1935). Exact for up to 16 pairs;
    for more, scipy draws 100,000 sign vectors with a fixed seed, and `method` says so. Raises ValueError for unequal
    lengths, no pairs, or values that are not finite.

    Three pairs that all favour a are not significant, because no three pairs can be:

    >>> result = paired_test([97.0, 97.5, 98.0], [96.0, 96.5, 97.5])
    >>> result.p, result.smallest_p
    (0.25, 0.25)
    """
    x, y = _finite(a, "a"), _finite(b, "b")
    if len(x) != len(y):
        raise ValueError(f"a paired test needs one b for each a; there are {len(x)} and {len(y)}")
    n, differences = len(x), x - y
    if n == 1:  # which scipy refuses
        return PairedTest(float(differences[0]), 1.0, 1, 1.0, "sign-flip test")
    result = scipy.stats.permutation_test(
        (differences,),
        lambda d, axis: d.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=2**14,  # bounds the memory
        rng=np.random.default_rng(0),
    )
    drawn = f"{RESAMPLES:,} random sign vectors" if 2**n > RESAMPLES else f"all {2**n} sign vectors"
    return PairedTest(float(differences.mean()), float(result.pvalue), n, smallest_p(n), f"sign-flip test, {drawn}")


def smallest_difference(differences: ArrayLike, power: float = 0.8, level: float = 0.05) -> float:
    """Return the smallest true difference that so many pairs, with their spread, would have shown.

    Shown: a two-sided paired t test at `level` finds it with probability `power`. nan for fewer than 2 pairs.

    >>> round(smallest_difference([-1.0, 0.0, 1.0, 0.0]), 2)  # standard deviation 0.82
    1.74
    """
    x = _finite(differences, "differences")
    return math.nan if len(x) < 2 else _detectable(float(x.std(ddof=1)), len(x), power, level)


def pairs_needed(differences: ArrayLike, difference: float, power: float = 0.8, level: float = 0.05) -> int | None:
    """Return how many pairs with this spread would show a true `difference`, or None if more than 100,000.

    At least as many as an exact sign-flip test needs to reach `level`: 6 for 0.05. None, too, for fewer than 2 pairs.

    >>> pairs_needed([-1.0, 0.0, 1.0, 0.0], 0.5)
    23
    """
    x, n, most = _finite(differences, "differences"), 2, 100_000
    while smallest_p(n) >= level:
        n += 1
    if len(x) < 2 or _detectable(float(x.std(ddof=1)), most, power, level) > abs(difference):
        return None
    few, enough = n - 1, most
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (
            (few, middle)
            if _detectable(float(x.std(ddof=1)), middle, power, level) <= abs(difference)
            else (middle, enough)
        )
    return enough


def _detectable(deviation: float, n: int, power: float, level: float) -> float:
    """Return the difference that a two-sided t test of n pairs with this standard deviation finds with that power."""
    bound = float(scipy.stats.t.ppf(1 - level / 2, n - 1))

    def missed(shift: float) -> float:  # in standard errors; the probability of the other tail is left out
        return float(scipy.stats.nct.cdf(bound, n - 1, shift)) - (1 - power)

    return deviation / n**0.5 * float(scipy.optimize.brentq(missed, 0.0, 5.0 + 2.0 * bound))


def holm(p: Sequence[float]) -> list[float]:
    """Return the p values of a family of tests adjusted by Holm (1979): at most a share p of families has a false one.

        adjusted p_(i) = max over j <= i of min(1, (m - j + 1) p_(j))        p_(1) <= ... <= p_(m)

    >>> holm([0.04, 0.01, 0.5])
    [0.08, 0.03, 0.5]
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate((len(p) - np.arange(len(p))) * np.asarray(p, dtype=float)[order]))
    return [float(value) for value in adjusted[np.argsort(order, kind="stable")]]


def family(n: int, level: float = 0.05) -> str:
    """Return one sentence on the `n` tests of a page."""
    if n == 0:
        return "This page makes no statistical test."
    return (
        f"This page makes {n} statistical test{'s' if n > 1 else ''}: if every null hypothesis were true, about "
        f"{n * level:.2g} would have p < {level:g} by chance. p_holm is p adjusted for all of them (Holm, 1979)."
    )


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
    r"""Return the expected maximum of `n` of the values, drawn without replacement: what best-of-n gives by chance.

    $$ \sum_i \binom{i - 1}{n - 1} x_{(i)} / \binom{m}{n}, \qquad x_{(1)} \le \dots \le x_{(m)} $$

    since the i-th smallest is the largest of that many of all choices. Raises ValueError unless 1 <= n <= m.
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


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    method: Literal["spearman", "kendall"] = "spearman",
    groups: Sequence[Hashable] | None = None,
) -> Correlation:
    """Return Spearman's rho or Kendall's tau-b (scipy) with a 95 % interval by Fisher's z.

        tanh(arctanh(r) -+ q s),   s^2 = (1 + r^2 / 2) / (n - 3) for rho (Bonett and Wright, 2000),
                                   s^2 = 0.437 / (n - 4) for tau (Fieller, Hartley and Pearson, 1957)

    with q the normal quantile. `groups` names the group of each pair: rho is then that of the ranks within each group,
    as distances from the group's mean rank, so that differences between groups do not count; each group beyond the
    first takes one off n in s and in the t test of rho. Groups of one pair are left out.

    So that a perfect order of a few runs does not give an interval of width 0, |r| is at most 1 minus half the step
    between two possible values. No interval (nan) for up to 4 pairs; all nan where x or y is constant.
    """
    u, v = _finite(x, "x"), _finite(y, "y")
    if len(u) != len(v):
        raise ValueError(f"a rank correlation needs one y for each x; there are {len(u)} and {len(v)}")
    of_group: dict[Hashable, list[int]] = {}
    for place, group in enumerate(groups or [""] * len(u)):
        of_group.setdefault(group, []).append(place)
    places = [place for place in of_group.values() if len(place) > 1]
    n, k = sum(map(len, places)), len(places)
    if not any(np.ptp(u[place]) for place in places) or not any(np.ptp(v[place]) for place in places):
        return Correlation(method, math.nan, math.nan, math.nan, math.nan, n, k)
    free = n - max(0, k - 1)  # as many pairs as one group would have
    if method == "spearman":
        a, b = (np.concatenate([_centred_ranks(z[place]) for place in places]) for z in (u, v))
        r = float(np.clip(a @ b / math.sqrt((a @ a) * (b @ b)), -1, 1))
        t = math.inf if abs(r) == 1 else abs(r) * math.sqrt(max(free - 2, 0) / (1 - r * r))
        p = 2 * float(scipy.stats.t.sf(t, free - 2)) if free > 2 else math.nan
    else:
        tau: Any = scipy.stats.kendalltau(u, v)
        r, p = float(tau.statistic), float(tau.pvalue)
    return Correlation(method, r, *_fisher_interval(method, r, free), p, n, k)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    ranks = scipy.stats.rankdata(values)
    return ranks - ranks.mean()


def _fisher_interval(method: str, r: float, n: int) -> tuple[float, float]:
    if n <= 4:
        return math.nan, math.nan
    step = 12 / (n * (n * n - 1)) if method == "spearman" else 4 / (n * (n - 1))
    clipped = max(-1 + step / 2, min(1 - step / 2, r))
    deviation = math.sqrt((1 + clipped**2 / 2) / (n - 3) if method == "spearman" else 0.437 / (n - 4))
    half = float(scipy.stats.norm.ppf((1 + CONFIDENCE) / 2)) * deviation
    return math.tanh(math.atanh(clipped) - half), math.tanh(math.atanh(clipped) + half)


def _finite(values: ArrayLike | Sequence[float], name: str) -> np.ndarray:
    x = np.asarray(values, dtype=float).reshape(-1)
    if len(x) == 0:
        raise ValueError(f"{name}: there are no values")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: {int((~np.isfinite(x)).sum())} of {len(x)} values are not finite")
    return x
