"""Statistics of a few runs, against scipy and cases worked by hand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from hdarts.workbook.analysis.statistics import (
    expected_maximum,
    paired_test,
    proportion,
    rank_correlation,
    smallest_p,
    summary,
    unpaired_interval,
    unpaired_test,
    what_n_can_show,
)

THESIS_TABLE_2 = [88.284, 87.972, 88.248, 88.416]  # validation accuracy of DARTS, four search seeds


def test_summary_is_the_usual_mean_and_sample_deviation():
    seen = summary(THESIS_TABLE_2)
    assert (seen.n, seen.minimum, seen.maximum) == (4, 87.972, 88.416)
    assert seen.mean == pytest.approx(88.23)
    assert seen.deviation == pytest.approx(math.sqrt((0.054**2 + 0.258**2 + 0.018**2 + 0.186**2) / 3))


def test_one_value_has_no_deviation_and_no_interval():
    seen = summary([3.0])
    assert (seen.n, seen.mean) == (1, 3.0)
    assert all(math.isnan(value) for value in (seen.deviation, seen.low, seen.high))


def test_equal_values_have_no_spread():
    seen = summary([2.0, 2.0, 2.0])
    assert (seen.deviation, seen.low, seen.high) == (0.0, 2.0, 2.0)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_small_bootstrap_counts_every_resample(n: int):
    values = np.random.default_rng(n).normal(size=n)
    every = np.sort([np.mean(pick) for pick in itertools.product(values, repeat=n)])
    seen = summary(values)
    assert seen.low == pytest.approx(every[math.ceil(0.025 * n**n) - 1])
    assert seen.high == pytest.approx(every[math.ceil(0.975 * n**n) - 1])


def test_interval_agrees_with_scipy_below_and_above_the_exact_limit():
    for n in (8, 30):
        values = np.random.default_rng(n).normal(90, 1, size=n)
        theirs = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
        seen = summary(values)
        assert (seen.low, seen.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
        assert seen == summary(values), "the same values have the same interval"


def test_paired_test_of_a_case_worked_by_hand():
    # differences 1, 2, 3: of the sums +-1 +-2 +-3 only +6 and -6 are as far from 0 as 6
    assert paired_test([2, 4, 6], [1, 2, 3]).p == pytest.approx(2 / 8)
    # differences 1, 2, -3: their sum is 0, and no sum is nearer to 0
    assert paired_test([1, 2, 0], [0, 0, 3]).p == 1.0
    # differences 3, 1: sums 4, 2, -2, -4
    assert paired_test([3, 0], [0, 1]).p == 1.0
    assert paired_test([3, 1], [0, 0]).difference == 2.0


def test_paired_test_agrees_with_scipy():
    for n in (4, 7, 10):
        a, b = np.random.default_rng(n).normal([[1.0], [0.5]], 1, size=(2, n))
        theirs = stats.permutation_test(
            (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", vectorized=False, n_resamples=5000
        )
        assert paired_test(a, b).p == pytest.approx(theirs.pvalue)


def test_rounding_does_not_break_ties():
    # 0.1 + 0.2 is not 0.3 in binary: the four sums that vanish are equal to the observed one all the same
    seen = paired_test([0.1, 0.2, 0.0], [0.0, 0.0, 0.3])
    assert seen.p == 1.0
    assert paired_test([0.3, 0.0, 0.0], [0.0, 0.2, 0.1]).p == 1.0


def test_four_paired_seeds_cannot_go_below_an_eighth():
    seen = paired_test([10, 11, 12, 13], [0, 0, 0, 0])
    assert seen.p == seen.smallest_p == smallest_p(4) == 0.125
    assert [smallest_p(n) for n in (1, 2, 6, 8)] == [1.0, 0.5, 0.03125, 0.0078125]


def test_the_sentence_says_what_n_can_show():
    assert "p = 0.125" in what_n_can_show(4)
    assert "at least 6" in what_n_can_show(4)
    assert "cannot" in what_n_can_show(5)
    assert "can reach p = 0.0312" in what_n_can_show(6)
    assert "1 paired seed " in what_n_can_show(1)
    assert what_n_can_show(4).count(".") - what_n_can_show(4).count("0.") == 1, "one sentence"


def test_unpaired_test_counts_all_ways_to_share_out_the_values():
    # of the C(4, 2) = 6 ways to choose two of 1, 2, 4, 8 only {1, 2} and {4, 8} lie so far apart
    difference, p = unpaired_test([4, 8], [1, 2])
    assert (difference, p) == pytest.approx((4.5, 2 / 6))


def test_a_share_has_the_interval_of_clopper_and_pearson():
    low, high = proportion(1, 4)
    assert 1 - (1 - low) ** 4 == pytest.approx(0.025)  # P(at least 1 of 4) at the lower end
    assert (1 - high) ** 4 + 4 * high * (1 - high) ** 3 == pytest.approx(0.025)  # P(at most 1 of 4) at the upper end
    assert proportion(0, 4)[0] == 0


def test_rank_correlations_are_scipys():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    for method, theirs in (("spearman", stats.spearmanr(x, x + y)), ("kendall", stats.kendalltau(x, x + y))):
        seen = rank_correlation(x, x + y, method)  # pyright: ignore[reportArgumentType]
        assert (seen.value, seen.p) == pytest.approx(tuple(theirs))
        assert -1 < seen.low < seen.value < seen.high < 1


def test_spearman_interval_of_a_case_worked_by_hand():
    # n = 5, one swap of neighbours: rho = 1 - 6 * 2 / 120 = 0.9, s = sqrt((1 + 0.405) / 2)
    seen = rank_correlation([1, 2, 3, 4, 5], [2, 1, 3, 4, 5])
    assert seen.value == pytest.approx(0.9)
    half = 1.959964 * math.sqrt(1.405 / 2)
    assert seen.low == pytest.approx(math.tanh(math.atanh(0.9) - half), abs=1e-6)
    assert seen.high == pytest.approx(math.tanh(math.atanh(0.9) + half), abs=1e-6)


def test_the_interval_covers_a_known_correlation_about_as_often_as_it_says():
    generator, inside = np.random.default_rng(0), 0
    rho = 6 / math.pi * math.asin(0.6 / 2)  # of a binormal population with correlation 0.6
    for _ in range(200):
        x, noise = generator.normal(size=(2, 20))
        seen = rank_correlation(x, 0.6 * x + 0.8 * noise)
        inside += seen.low <= rho <= seen.high
    assert 180 <= inside <= 199


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_a_perfect_order_of_few_runs_is_no_certainty(method):
    seen = rank_correlation(range(6), range(6), method)
    assert seen.value == pytest.approx(1.0)
    assert 0 < seen.low < 0.9 and seen.high < 1
    turned = rank_correlation(range(6), range(6, 0, -1), method)
    assert (turned.low, turned.high) == pytest.approx((-seen.high, -seen.low))


def test_correlation_that_is_not_defined_says_so():
    constant = rank_correlation([1, 2, 3, 4, 5], [7, 7, 7, 7, 7])
    assert math.isnan(constant.value) and "not defined" in str(constant)
    few = rank_correlation([1, 2, 3], [1, 3, 2])
    assert few.value == pytest.approx(0.5) and math.isnan(few.low) and "no interval" in str(few)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: summary([]), "no values"),
        (lambda: summary([1.0, math.nan]), "1 of 2 values are not finite"),
        (lambda: paired_test([1, 2], [1]), "there are 2 and 1"),
        (lambda: paired_test(range(21), range(21)), "21 pairs are more than 20"),
        (lambda: paired_test([], []), "no values"),
        (lambda: rank_correlation([1, 2], [1, 2, 3]), "there are 2 and 3"),
        (lambda: smallest_p(0), "n = 0"),
        (lambda: proportion(5, 4), "5 of 4 is no share"),
        (lambda: unpaired_test([1.0], [math.inf]), "b: 1 of 1"),
        (lambda: what_n_can_show(-1), "n = -1"),
    ],
)
def test_bad_input_is_named(call, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_the_interval_of_an_unpaired_difference_holds_it_and_needs_two_values_a_side():
    low, high = unpaired_interval([3.0, 4.0, 5.0], [1.0, 1.0, 1.0])
    assert (low, high) == (2.0, 4.0)
    assert all(math.isnan(end) for end in unpaired_interval([1.0], [1.0, 2.0]))


def test_the_expected_best_of_n_is_the_mean_over_all_choices():
    values = [3.0, 1.0, 4.0, 1.5]
    for n in range(1, 5):
        best = [max(choice) for choice in itertools.combinations(values, n)]
        assert expected_maximum(values, n) == pytest.approx(sum(best) / len(best))
    with pytest.raises(ValueError, match="best of 5 cannot be drawn from 4"):
        expected_maximum(values, 5)
