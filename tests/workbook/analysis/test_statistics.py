"""Statistics of a few runs, against scipy and cases worked by hand."""

import itertools
import math
import re

import numpy as np
import pytest
from scipy import stats

from hdarts.workbook.analysis.statistics import (
    expected_maximum,
    family,
    holm,
    paired_test,
    proportion,
    rank_correlation,
    smallest_p,
    summary,
    unpaired_interval,
    what_n_can_show,
)

THESIS_TABLE_2 = [88.284, 87.972, 88.248, 88.416]  # validation accuracy of DARTS, four search seeds


def test_summary_has_mean_sample_deviation_and_t_interval():
    result = summary(THESIS_TABLE_2)
    assert (result.n, result.minimum, result.maximum) == (4, 87.972, 88.416)
    assert result.mean == pytest.approx(88.23)
    assert result.deviation == pytest.approx(math.sqrt((0.054**2 + 0.258**2 + 0.018**2 + 0.186**2) / 3))
    half = 3.182446 * result.deviation / 2  # the quantile of Student's t for 3 degrees of freedom
    assert (result.low, result.high) == pytest.approx((result.mean - half, result.mean + half))
    theirs = stats.ttest_1samp(THESIS_TABLE_2, 0).confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx(tuple(theirs))


def test_fewer_than_three_values_have_no_interval_and_one_has_no_deviation():
    for values, deviation in (([3.0], math.nan), ([3.0, 5.0], 2**0.5)):
        result = summary(values)
        assert (result.n, result.mean) == (len(values), sum(values) / len(values))
        assert result.deviation == pytest.approx(deviation, nan_ok=True)
        assert math.isnan(result.low) and math.isnan(result.high)


def test_equal_values_have_no_spread():
    result = summary([2.0, 2.0, 2.0])
    assert (result.deviation, result.low, result.high) == (0.0, 2.0, 2.0)


def test_t_interval_contains_a_known_mean_as_often_as_it_says():
    samples = np.random.default_rng(0).normal(1.0, 2.0, size=(400, 5))
    inside = [(result := summary(values)).low <= 1.0 <= result.high for values in samples]
    assert 0.92 <= np.mean(inside) <= 0.98


def test_paired_test_of_a_case_worked_by_hand():
    # differences 1, 2, 3: of the sums +-1 +-2 +-3 only +6 and -6 are as far from 0 as 6
    assert paired_test([2, 4, 6], [1, 2, 3]).p == pytest.approx(2 / 8)
    # differences 1, 2, -3: their sum is 0, and no sum is nearer to 0
    assert paired_test([1, 2, 0], [0, 0, 3]).p == 1.0
    # differences 3, 1: sums 4, 2, -2, -4
    assert paired_test([3, 0], [0, 1]).p == 1.0
    assert paired_test([3, 1], [0, 0]).difference == 2.0


@pytest.mark.parametrize("n", [1, 2, 3, 6, 11])
def test_paired_test_counts_all_sign_flips(n: int):
    differences = np.random.default_rng(n).normal(0.5, 1, size=n)
    sums = [np.dot(signs, differences) for signs in itertools.product((1, -1), repeat=n)]
    share = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    assert paired_test(differences, np.zeros(n)).p == share


def test_many_pairs_are_tested_on_random_sign_vectors_and_the_method_says_so():
    differences = np.random.default_rng(0).normal(0.5, 1, size=30)
    result = paired_test(differences, np.zeros(30))
    assert result == paired_test(differences, np.zeros(30)), "the seed is fixed"
    normal = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert result.p == pytest.approx(normal, abs=0.01)
    assert result.method == "sign-flip test, 100,000 random sign vectors"
    assert paired_test(differences[:6], np.zeros(6)).method == "sign-flip test, all 64 sign vectors"


def test_ties_survive_rounding():
    # 0.1 + 0.2 is not 0.3 in binary: the four sums that vanish are equal to the observed one all the same
    result = paired_test([0.1, 0.2, 0.0], [0.0, 0.0, 0.3])
    assert result.p == 1.0
    assert paired_test([0.3, 0.0, 0.0], [0.0, 0.2, 0.1]).p == 1.0


def test_four_paired_seeds_cannot_go_below_an_eighth():
    result = paired_test([10, 11, 12, 13], [0, 0, 0, 0])
    assert result.p == result.smallest_p == smallest_p(4) == 0.125
    assert [smallest_p(n) for n in (1, 2, 6, 8)] == [1.0, 0.5, 0.03125, 0.0078125]


def test_sentence_says_what_n_pairs_can_show():
    assert "p = 0.125" in what_n_can_show(4)
    assert "at least 6" in what_n_can_show(4)
    assert "cannot" in what_n_can_show(5)
    assert "can reach p = 0.0312" in what_n_can_show(6)
    assert "1 paired seed " in what_n_can_show(1)
    assert what_n_can_show(4).count(".") - what_n_can_show(4).count("0.") == 1, "one sentence"


def test_holm_multiplies_the_smallest_p_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert holm([0.6, 0.6]) == [1.0, 1.0] and holm([]) == [] and holm([0.2]) == [0.2]


@pytest.mark.parametrize(
    ("n", "words"), [(0, "no statistical test"), (1, "1 statistical test:"), (40, "40 statistical tests: .* about 2 ")]
)
def test_a_page_states_how_many_tests_it_makes(n: int, words: str):
    assert re.search(words, family(n))


def test_share_has_the_interval_of_clopper_and_pearson():
    low, high = proportion(1, 4)
    assert 1 - (1 - low) ** 4 == pytest.approx(0.025)  # P(at least 1 of 4) at the lower end
    assert (1 - high) ** 4 + 4 * high * (1 - high) ** 3 == pytest.approx(0.025)  # P(at most 1 of 4) at the upper end
    assert proportion(0, 4)[0] == 0


def test_rank_correlations_are_those_of_scipy():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    for method, theirs in (("spearman", stats.spearmanr(x, x + y)), ("kendall", stats.kendalltau(x, x + y))):
        result = rank_correlation(x, x + y, method)  # pyright: ignore[reportArgumentType]
        assert (result.value, result.p) == pytest.approx(tuple(theirs))
        assert -1 < result.low < result.value < result.high < 1


def test_correlation_within_groups_is_a_partial_one_of_ranks():
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    groups, shift = ["a"] * 5 + ["b"] * 6 + ["c"], np.array([0.0] * 5 + [100.0] * 6 + [500.0])
    result = rank_correlation(x + shift, y + shift, groups=groups)
    assert (result.n, result.groups) == (11, 2), "the only one of c is left out"
    u, v = (np.concatenate([stats.rankdata(z[:5]) - 3, stats.rankdata(z[5:11]) - 3.5]) for z in (x, y))
    r = np.corrcoef(u, v)[0, 1]
    assert result.value == pytest.approx(r)
    assert result.p == pytest.approx(2 * stats.t.sf(abs(r) * math.sqrt(8 / (1 - r * r)), 8)), "11 - 2 - 1 left"
    half = 1.959964 * math.sqrt((1 + r * r / 2) / (10 - 3))
    assert result.low == pytest.approx(math.tanh(math.atanh(r) - half))
    assert "within 2 arms" in str(result)


def test_spearman_interval_of_a_case_worked_by_hand():
    # n = 5, one swap of neighbours: rho = 1 - 6 * 2 / 120 = 0.9, s = sqrt((1 + 0.405) / 2)
    result = rank_correlation([1, 2, 3, 4, 5], [2, 1, 3, 4, 5])
    assert result.value == pytest.approx(0.9)
    half = 1.959964 * math.sqrt(1.405 / 2)
    assert result.low == pytest.approx(math.tanh(math.atanh(0.9) - half), abs=1e-6)
    assert result.high == pytest.approx(math.tanh(math.atanh(0.9) + half), abs=1e-6)


def test_interval_contains_a_known_correlation_about_as_often_as_it_says():
    generator, inside = np.random.default_rng(0), 0
    rho = 6 / math.pi * math.asin(0.6 / 2)  # of a binormal population with correlation 0.6
    for _ in range(200):
        x, noise = generator.normal(size=(2, 20))
        result = rank_correlation(x, 0.6 * x + 0.8 * noise)
        inside += result.low <= rho <= result.high
    assert 180 <= inside <= 199


@pytest.mark.parametrize("method", ["spearman", "kendall"])
def test_perfect_order_of_few_runs_has_a_wide_interval(method):
    result = rank_correlation(range(6), range(6), method)
    assert result.value == pytest.approx(1.0)
    assert 0 < result.low < 0.9 and result.high < 1
    turned = rank_correlation(range(6), range(6, 0, -1), method)
    assert (turned.low, turned.high) == pytest.approx((-result.high, -result.low))


def test_undefined_correlation_says_so():
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
        (lambda: paired_test([], []), "no values"),
        (lambda: rank_correlation([1, 2], [1, 2, 3]), "there are 2 and 3"),
        (lambda: smallest_p(0), "n = 0"),
        (lambda: proportion(5, 4), "5 of 4 is not a proportion"),
        (lambda: unpaired_interval([1.0], [math.inf]), "b: 1 of 1"),
        (lambda: what_n_can_show(-1), "n = -1"),
    ],
)
def test_bad_input_is_named(call, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_interval_of_an_unpaired_difference_is_welchs():
    a, b = np.random.default_rng(0).normal([[1.0], [0.0]], [[1.0], [3.0]], size=(2, 5))
    va, vb = a.var(ddof=1) / 5, b.var(ddof=1) / 5
    quantile = stats.t.ppf(0.975, (va + vb) ** 2 / (va**2 / 4 + vb**2 / 4))
    half, gap = quantile * math.sqrt(va + vb), a.mean() - b.mean()
    assert unpaired_interval(a, b) == pytest.approx((gap - half, gap + half))
    low, high = unpaired_interval([3.0, 4.0, 5.0], [1.0, 1.0, 1.0])  # one sample is constant
    assert (low, high) == pytest.approx((3 - 4.302653 / 3**0.5, 3 + 4.302653 / 3**0.5))
    assert all(math.isnan(end) for end in unpaired_interval([1.0, 2.0], [1.0, 2.0, 3.0])), "too few values"


def test_expected_best_of_n_is_the_mean_over_all_choices():
    values = [3.0, 1.0, 4.0, 1.5]
    for n in range(1, 5):
        best = [max(choice) for choice in itertools.combinations(values, n)]
        assert expected_maximum(values, n) == pytest.approx(sum(best) / len(best))
    with pytest.raises(ValueError, match="best of 5 cannot be drawn from 4"):
        expected_maximum(values, 5)
