"""Verdicts follow from runs by stated rules: decided only where the runs can decide, and never beyond their scale."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import stdev
from typing import Any

import pandas as pd
import pytest
from helpers.results import MadeUpStudy

from hdarts.workbook.analysis.statistics import pairs_needed, smallest_difference
from hdarts.workbook.claims import CLAIMS, assess, best_of_n, intervals, verdicts, with_links
from hdarts.workbook.claims.claims import Claim
from hdarts.workbook.claims.evidence import Evidence, read_evidence
from hdarts.workbook.claims.finding import Finding, joint_verdict, paired
from hdarts.workbook.claims.rules import (
    best_setting,
    better_cells,
    comparable,
    correlation,
    difference,
    nearer,
    reduced_until,
    similar,
    trend,
    zero_direct_part,
)
from hdarts.workbook.claims.thesis import table

SEEDS = (2, 20, 200, 2000, 3, 30)
BETTER = {"a": [90.5, 91.0, 90.2, 91.5, 90.1, 90.8], "b": [90.0, 90.1, 90.0, 90.2, 90.0, 90.3]}
predicts = partial(correlation, x="validation_accuracy", y="last_test_accuracy", want="higher")
skip_free_is_worse = partial(correlation, x="skip_free", y="last_test_accuracy", want="lower")


def higher(*arms: str, of: str = "validation_accuracy", **more: Any) -> partial[Finding]:
    """The rule that a measure of the first arm is higher than that of the others."""
    return partial(difference, arms=arms, of=of, want="higher", **more)


def evidence(
    searches: dict[str, list[float]],
    measure: str = "validation_accuracy",
    full: bool = True,
    scale: str = "",
    **columns: Any,
) -> Evidence:
    """A study of finished searches, {arm: one value per seed}; `columns` are labels of all of them."""
    rows = [
        {"run": f"thesis-mini/{arm}-{seed}", "arm": arm, "search_seed": seed, measure: value, "full": full, **columns}
        for arm, values in searches.items()
        for seed, value in zip(SEEDS, values, strict=False)
    ]
    return Evidence("thesis-mini", rows, [], [], scale)


def of_cells(rows: list[dict], study: str = "thesis") -> Evidence:
    """A study of tested cells; what a row leaves out is filled in."""
    plain = {"data": "cifar10", "search_data": "cifar10", "selected": False, "full": True}
    filled = [
        {**plain, "search_seed": seed, "accuracies": [row["last_test_accuracy"]], "run": f"{study}/{n}", **row}
        for n, (seed, row) in enumerate(zip(SEEDS * 9, rows, strict=False))
    ]
    return Evidence(study, filled, filled, [])


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        (higher("a", "b"), "supported"),
        (higher("b", "a"), "contradicted"),
        (partial(difference, arms=("a", "b"), of="validation_accuracy", want="lower"), "contradicted"),
        (higher("a", "a"), "not decidable here"),
    ],
)
def test_six_pairs_of_one_sign_decide_by_that_sign(rule: partial[Finding], verdict: str):
    assert assess(evidence(BETTER), rule).verdict == verdict


def test_five_pairs_are_too_few_to_decide_and_the_finding_says_so():
    finding = assess(evidence({arm: values[:5] for arm, values in BETTER.items()}), higher("a", "b"))
    assert finding.verdict == "not decidable here"
    assert "cannot go below p = 0.0625" in finding.result


def test_what_cannot_be_decided_says_what_it_would_cost():
    differences = [0.5, -0.4, 0.3, -0.2, 0.1, 0.0]
    known = evidence({"a": [90 + d for d in differences], "b": [90.0] * 6}, seconds=1800.0)
    finding = assess(known, higher("a", "b", stated=0.3))
    needed = pairs_needed(differences, 0.3)
    assert finding.verdict == "not decidable here" and needed is not None
    assert f"show differences from {smallest_difference(differences):.3g} on" in finding.needs
    assert f"The stated 0.3 needs {needed} pairs, {needed - 6:.1f} more hours of runs here." in finding.needs


def test_an_interval_that_excludes_the_stated_size_says_so():
    known = evidence({"a": [90.0, 90.1, 89.9, 90.05, 89.95, 90.0], "b": [90.0] * 6})
    assert assess(known, higher("a", "b", stated=0.5)).verdict == "not of the stated size"
    assert assess(known, higher("a", "b", stated=0.05)).verdict == "not decidable here"


def planted(effect: float, spread: float, seeds: int = 8) -> Evidence:
    """Searches in NAS-Bench-201 whose true accuracies differ by `effect`, with a spread."""
    pattern = [1.0, -0.6, 0.4, -0.9, 0.7, -0.3, 0.2, -0.5]
    rows = [
        {"run": f"s/{arm}-{seed}", "arm": arm, "search_seed": seed, "full": True, "seconds": 60.0}
        | {"true_cifar10": 90.0 + (effect + spread * pattern[seed]) * (arm == "a")}
        for arm in "ab"
        for seed in range(seeds)
    ]
    return Evidence("s", rows, [], [])


@pytest.mark.parametrize(
    ("effect", "spread", "unsure", "verdict"),
    [
        (2.0, 0.5, (), "supported"),
        (-2.0, 0.5, (), "contradicted"),
        (0.0, 5.0, (), "not decidable here"),
        (0.0, 0.1, (), "not of the stated size"),
        (2.0, 0.5, ("b",), "not decidable here"),
        (2.0, 0.5, ("c",), "supported"),
    ],
)
def test_planted_effects_get_their_verdicts(
    effect: float, spread: float, unsure: tuple[str, ...], verdict: str, monkeypatch: pytest.MonkeyPatch
):
    rule = partial(better_cells, arms=("a", "b"), data="cifar10", stated=1.0)
    monkeypatch.setattr("hdarts.workbook.claims.CLAIMS", [Claim("one", "a is better", 1, "", rule)])
    table, _ = verdicts(planted(effect, spread), unsure=unsure)
    assert table["verdict"].tolist() == [verdict]
    assert ("so their cells are arbitrary" in table["needs"][0]) == (unsure == ("b",))


def test_a_study_at_a_scale_that_trained_no_cell_says_what_full_scale_would_cost():
    arms = {"hyperdarts-1": [30.0, 31.0], "darts-second": [29.0, 30.0], "random": [0.0, 0.0]}
    rule = partial(better_cells, arms=("hyperdarts-1", "darts-second"), data="cifar10", stated=0.16)
    finding = assess(evidence(arms, scale="small scale", full=False), rule)
    spread = math.hypot(stdev(table(3)["cifar10"]), stdev(table(13)["cifar10"]))
    needed = pairs_needed([-spread / math.sqrt(2), spread / math.sqrt(2)], 0.16)
    assert finding.verdict == "not decidable here" and needed is not None and needed > 6
    hours = needed * (48 / 4 + 47 / 4 + 2 * 36)
    assert f"needs at least {needed} search seeds at full scale: about {hours:,.0f} GPU hours" in finding.needs
    assert assess(evidence(arms), rule).verdict == "not run here", "at full scale the cells are still to be trained"
    rule = partial(better_cells, arms=("hyperdarts-1", "random"), data="cifar10")
    unknown = assess(evidence(arms, scale="small scale", full=False), rule)
    price = f"unknown size needs at least 6 search seeds at full scale: about {6 * (47 / 4 + 72):,.0f} GPU hours"
    assert price in unknown.needs


@pytest.mark.parametrize(
    ("skip_free", "verdict", "counts"),
    [
        ({49: [1, 0, 0, 0], 48: [0, 0, 0, 0], 45: [1, 1, 1, 1]}, "supported", "1 of 4 at 49, 0 of 4 at 48."),
        ({49: [1, 0, 0, 0], 45: [0, 1, 0, 0]}, "contradicted", "1 of 4 at 49, 1 of 4 at 45."),
        ({49: [1, 0, 0], 45: [0, 1, 0]}, "not run here", ""),
    ],
)
def test_fewer_epochs_until_all_searches_have_skips(skip_free: dict[int, list[float]], verdict: str, counts: str):
    rows = [
        row | {"epochs": epochs}
        for epochs, values in skip_free.items()
        for row in evidence({"a" if epochs == 49 else "b": values}, "skip_free").searches
    ]
    rule = partial(reduced_until, arms=("a", "b"), over="epochs", of="skip_free")
    finding = assess(Evidence("thesis", rows, [], []), rule)
    assert finding.verdict == verdict and counts in finding.result


def test_skip_connections_of_searches_that_did_not_decide_say_nothing(monkeypatch: pytest.MonkeyPatch):
    rule = partial(trend, arm="a", over="epochs", of="skip_free", want="higher")
    monkeypatch.setattr("hdarts.workbook.claims.CLAIMS", [Claim("one", "more epochs, fewer skips", 1, "", rule)])
    rows = [
        {"run": f"s/a-{n}-{seed}", "arm": "a", "search_seed": seed, "epochs": n, "skip_free": n > 45, "full": True}
        for n in (45, 50)
        for seed in SEEDS
    ]
    for unsure, verdict in (((), "supported"), (("a",), "not decidable here")):
        table, _ = verdicts(Evidence("s", rows, [], []), unsure=unsure)
        assert table["verdict"].tolist() == [verdict]


def test_comparable_to_variants_needs_one_of_them():
    rule = partial(comparable, arms=("a",), others=("b", "z"), margin=0.5)
    assert assess(planted(0.1, 0.05), rule).verdict == "supported"
    assert assess(planted(3.0, 0.05), rule).verdict == "contradicted"
    assert assess(planted(0.1, 0.05), partial(rule, others=("z",))).verdict == "not run here"


def test_differences_of_both_signs_leave_a_claim_undecided():
    mixed = BETTER | {"a": [90.5, 89.0, 90.2, 89.5, 90.1, 90.8]}
    assert assess(evidence(mixed), higher("a", "b")).verdict == "not decidable here"


def test_difference_is_paired_over_common_seeds():
    finding = assess(evidence({"a": [91.0, 93.0, 95.0], "b": [90.0, 90.0]}), higher("a", "b"))
    assert "search seeds 2, 20" in finding.ran
    assert "a - b: +2 (no interval, p = 0.5, n = 2)" in finding.result
    assert finding.runs == ("thesis-mini/a-2", "thesis-mini/a-20", "thesis-mini/b-2", "thesis-mini/b-20")


def test_claim_of_several_parts_needs_all_of_them():
    known = evidence(BETTER | {"c": BETTER["b"], "d": [95.0] * 6})
    assert assess(known, higher("a", "b", "c")).verdict == "supported"
    assert assess(known, higher("a", "b", "d")).verdict == "contradicted"
    assert joint_verdict(["supported", "not decidable here"]) == "not decidable here"


def test_margin_allows_a_measure_to_be_slightly_worse():
    known = evidence({"a": [90.0, 90.1, 90.2, 89.9, 90.0, 90.1], "b": [90.1, 90.0, 90.1, 90.1, 90.2, 90.0]})
    assert assess(known, higher("a", "b")).verdict == "not decidable here"
    assert assess(known, higher("a", "b", margin=0.5)).verdict == "supported"
    worse = evidence({"a": [80.0, 81.0, 80.5, 79.0, 80.0, 80.2], "b": [90.0] * 6})
    assert assess(worse, higher("a", "b", margin=0.5)).verdict == "contradicted"


@pytest.mark.parametrize(("difference", "verdict"), [(0.1, "supported"), (2.0, "contradicted"), (-2.0, "contradicted")])
def test_similar_is_a_statement_with_two_sides(difference: float, verdict: str) -> None:
    base = [90.0, 90.1, 90.2, 89.9, 90.05, 90.15]
    shifts = [0.0, 0.02, -0.02, 0.01, -0.01, 0.03]
    known = evidence({"a": [x + difference + y for x, y in zip(base, shifts, strict=True)], "b": base})
    rule = partial(similar, arms=("a", "b"), of="validation_accuracy", margin=0.5)
    assert assess(known, rule).verdict == verdict
    loud = evidence({"a": [x + y for x, y in zip(base, (3, -3, 2, -2, 1, -1), strict=True)], "b": base})
    assert assess(loud, rule).verdict == "not decidable here"


def test_costs_are_compared_as_a_ratio():
    finding = assess(evidence({"a": [20.0] * 6, "b": [10.0] * 6}, "seconds"), higher("a", "b", of="seconds"))
    assert "a takes 2.00 times as long as b" in finding.result
    assert finding.verdict == "supported"


def test_effect_is_the_mean_difference_with_the_exact_test():
    effect = paired([1.0, 2.0, 3.0])
    assert (effect.value, effect.n, effect.p) == (2.0, 3, 0.25)


@pytest.mark.parametrize("known", [evidence(BETTER, full=False), evidence(BETTER, scale="half of the seeds")])
def test_small_runs_and_studies_at_a_scale_decide_at_mini_scale_only(known: Evidence):
    """Whatever their names: those of full size are called thesis-mini as well."""
    assert assess(known, higher("a", "b")).verdict == "supported at mini scale"
    assert assess(known, higher("b", "a")).verdict == "contradicted at mini scale"
    assert assess(known, higher("a", "a")).verdict == "not decidable here"


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (higher("a", "c"), "no search of arm c"),
        (higher("a", "b", batch_size="48"), "no search of arm a, batch_size 48"),
        (higher("a", "b", of="eigenvalue"), "eigenvalue was not measured in arm a"),
        (higher("a", "b", of="last_test_accuracy"), "no tested cell of arm a"),
        (
            partial(trend, arm="a", over="batch_size", of="validation_accuracy", want="lower"),
            "batch_size was not measured in arm a",
        ),
        (predicts, "cells tested on the data that they were searched on"),
        (
            partial(nearer, arms=("a",), method="hypernetwork", than="other", want="lower"),
            "notebook 04 was not run on a search of arm a",
        ),
        (partial(zero_direct_part, arms=("a",)), "direct_share was not measured in arm a"),
    ],
)
def test_missing_runs_are_named(rule: Callable[[Evidence], Finding], sentence: str):
    finding = assess(evidence(BETTER), rule)
    assert finding.verdict == "not run here"
    assert sentence in finding.result and finding.runs == ()


def test_settings_of_one_seed_are_not_averaged():
    known = evidence({"a": [1.0], "b": [2.0]})
    twice = Evidence("thesis", known.searches * 2, [], [])
    assert "several settings of one search seed" in assess(twice, higher("a", "b")).result


def test_one_selected_cell_per_arm_cannot_rank_methods_and_is_compared_with_random_ones():
    rows: list[dict] = [
        {"arm": "a", "selected": True, "last_test_accuracy": 97.5, "accuracies": [97.4, 97.6]},
        {"arm": "b", "selected": True, "last_test_accuracy": 97.0, "accuracies": [97.0, 97.0]},
        *({"arm": "random", "last_test_accuracy": value} for value in (96.0, 97.0, 98.0)),
    ]
    finding = assess(of_cells(rows), higher("a", "b", of="last_test_accuracy", data="cifar10"))
    assert finding.verdict == "not decidable here"
    assert "Best of n: a - b: +0.5 points" in finding.result and "cannot rank methods" in finding.needs
    assert "Expected best of 1 random cells: 97.00 %" in finding.result


def test_claim_on_one_data_set_uses_no_cells_of_another():
    rows = [{"arm": arm, "last_test_accuracy": 97.0} for arm in ("a", "b")]
    finding = assess(of_cells(rows), higher("a", "b", of="last_test_accuracy", data="cifar100"))
    assert finding.verdict == "not run here" and "data cifar100" in finding.result


def test_validation_predicts_test_accuracy_where_the_interval_of_the_correlation_excludes_zero():
    rising = [{"arm": "a", "validation_accuracy": 80.0 + n, "last_test_accuracy": 90.0 + n} for n in range(8)]
    assert assess(of_cells(rising), predicts).verdict == "supported"
    falling = [row | {"last_test_accuracy": -row["last_test_accuracy"]} for row in rising]
    assert assess(of_cells(falling), predicts).verdict == "contradicted"
    assert assess(of_cells(rising[:4]), predicts).verdict == "not decidable here"
    assert assess(of_cells(rising[:2]), predicts).verdict == "not run here"


@pytest.mark.parametrize(
    ("rule", "unsure", "verdict"),
    [
        (predicts, (), "supported"),
        (predicts, ("a",), "not decidable here"),
        (predicts, ("b",), "supported"),  # no cell of that arm was tested
        (skip_free_is_worse, ("a",), "supported"),  # a claim on any cells, whether a search chose them or not
    ],
)
def test_what_predicts_a_cell_of_a_search_needs_searches_that_decided(
    rule: partial[Finding], unsure: tuple[str, ...], verdict: str, monkeypatch: pytest.MonkeyPatch
):
    rows = [{"arm": "a", "validation_accuracy": 80.0 + n, "last_test_accuracy": 90.0 + n} for n in range(8)]
    rows = [row | {"skip_free": float(n < 4)} for n, row in enumerate(rows)]
    monkeypatch.setattr("hdarts.workbook.claims.CLAIMS", [Claim("one", "x predicts y", 1, "", rule)])
    table, _ = verdicts(of_cells(rows), unsure=unsure)
    assert table["verdict"].tolist() == [verdict]


def test_cells_without_skips_are_compared_with_the_others_of_their_arm():
    rows = [
        {"arm": arm, "skip_free": float(n % 2), "last_test_accuracy": base - n % 2 + n / 100}
        for arm, base in (("a", 97.0), ("b", 60.0))
        for n in range(8)
    ]
    finding = assess(of_cells(rows), skip_free_is_worse)
    assert finding.verdict == "supported" and finding.ran == "16 searched cells of 2 arms"
    assert assess(of_cells(rows[:4]), skip_free_is_worse).verdict == "not decidable here"
    assert assess(of_cells(rows[:1]), skip_free_is_worse).verdict == "not run here"


def test_a_correlation_between_arms_is_none_within_them():
    """Arms that differ in both measures, in which the measures are unrelated: pooled, rho would be 0.9."""
    rows = [
        {"arm": arm, "validation_accuracy": base + x, "last_test_accuracy": base + y}
        for arm, base in (("a", 10.0), ("b", 50.0), ("c", 90.0))
        for x, y in ((0, 1), (1, 3), (2, 0), (3, 2))
    ]
    finding = assess(of_cells(rows), predicts)
    assert finding.verdict == "not decidable here" and "within 3 arms = 0.00" in finding.result


def settings(best: dict[int, float]) -> Evidence:
    """Searches at two batch sizes and three learning rates; `best` is the best rate for each batch size."""
    rows = [
        {"run": f"r/{seed}-{batch}-{rate}", "arm": "a", "search_seed": seed, "full": True}
        | {
            "batch_size": batch,
            "learning_rate": rate,
            "validation_accuracy": 90 - abs(rate - best[batch]) - batch / 100,
        }
        for seed in SEEDS
        for batch in (32, 64)
        for rate in (0.025, 0.05, 0.1)
    ]
    return Evidence("thesis", rows, [], [])


def test_best_learning_rate_changes_with_the_batch_size():
    rule = partial(best_setting, arm="a", setting="learning_rate", over="batch_size", want="higher")
    finding = assess(settings({32: 0.025, 64: 0.1}), rule)
    assert finding.verdict == "supported" and "+2 (95 % t interval +2 to +2" in finding.result
    assert assess(settings({32: 0.05, 64: 0.05}), rule).verdict == "not decidable here"
    assert assess(settings({32: 0.1, 64: 0.05}), rule).verdict == "contradicted"


def test_trend_is_computed_within_each_seed():
    rule = partial(trend, arm="a", over="batch_size", of="validation_accuracy", want="lower")
    known = settings({32: 0.05, 64: 0.05})
    assert assess(known, partial(rule, learning_rate="0.05")).verdict == "supported"
    assert assess(evidence(BETTER, batch_size=32), rule).verdict == "not run here"


@pytest.mark.parametrize(
    ("least", "mean", "verdict"),
    [(0.1, 0.5, "contradicted"), (0.0, 0.0, "supported"), (0.0, 0.5, "not decidable here")],
)
def test_direct_part_is_zero_only_if_it_is_at_every_step(least: float, mean: float, verdict: str):
    known = evidence({"a": [mean, mean]}, "direct_share", least_direct_share=least)
    assert assess(known, partial(zero_direct_part, arms=("a",))).verdict == verdict


def test_direct_parts_of_two_models_are_not_pooled():
    known = evidence({"a": [0.06, 0.08], "b": [0.72, 0.74]}, "direct_share", least_direct_share=0.05)
    result = assess(known, partial(zero_direct_part, arms=("a", "b"))).result
    assert "a: |direct| / (|direct| + |response|) is 0.07 (0.06 to 0.08" in result and "is 0.73" in result


def errors(of_method: dict[str, list[float]]) -> Evidence:
    """Two snapshots of each of the searches of arm a, {method: one relative error per search}."""
    rows = [
        {"run": f"r/{search}", "arm": "a", "seed": SEEDS[search], "epoch": epoch, "method": method, "part": "total"}
        | {"relative_error": value + (0.1 if epoch == 4 else -0.1), "full": False}
        for method, values in of_method.items()
        for search, value in enumerate(values)
        for epoch in (4, 12)
    ]
    return Evidence("thesis", [], [], rows)


def test_snapshots_of_one_search_are_one_run():
    known = errors({"hypernetwork": [0.9, 0.8], "DARTS (finite difference)": [0.5, 0.6]})
    than = "DARTS (finite difference)"
    finding = assess(known, partial(nearer, arms=("a",), method="hypernetwork", than=than, want="lower"))
    assert finding.verdict == "not decidable here" and "+0.3 (no interval, p = 0.5, n = 2)" in finding.result
    assert finding.ran == "a: 2 searches, 2 snapshots each"


def test_error_beyond_the_uncertainty_of_the_reference_is_not_eliminated():
    known = errors({"hypernetwork": [0.9, 0.8, 0.9, 1.0, 0.8, 0.7], "half the reference": [0.3] * 6})
    rule = partial(nearer, arms=("a",), method="hypernetwork", than="half the reference", want="lower")
    assert assess(known, rule).verdict == "contradicted at mini scale"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two searches, the first selected, tested with two seeds as selected, with three by itself, on two data sets."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    for seed in (2, 20):
        result = {"best_validation_accuracy": 90.0 + seed, "skips_normal": 2 - seed // 10}
        params = {"data": "cifar10", "channels": 4, "limit": 500, "learning_rate": 0.05}
        metrics = [
            {"epoch": 1, "validation_accuracy": 80},
            {"epoch": 2, "validation_accuracy": 85, "discretised_accuracy": 70.5, "eigenvalue": 0.25},
        ]
        steps = [
            {"step": 0, "direct_normal": 3, "direct_reduce": 4, "response_normal": 0, "response_reduce": 5},
            {"step": 1, "direct_normal": 0, "direct_reduce": 1, "response_normal": 3, "response_reduce": 0},
        ]
        times = [{"epoch": 1, "seconds": 2.5}, {"epoch": 2, "seconds": 3.5}]
        tables = {"metrics": metrics, "timings": times, "hypergradients": steps}
        study.add("search", f"a-{seed}", result, params=params, tables=tables, arm="a", search_seed=seed)
    chosen = {"chosen": "mine/search/a-2", "search_seed": 2}
    select = study.add("select", "a", chosen, "mine/search/a-2 mine/search/a-20", {}, arm="a")
    ten, hundred = {"data": "cifar10"}, {"data": "cifar100"}
    for seed, accuracy in ((0, 60.0), (1, 64.0)):
        tested = {"last_test_accuracy": accuracy, "data": "cifar10"}
        params = {**ten, "evaluation_seed": seed}
        study.add("evaluate", f"a-{seed}", tested, select, params, arm="a", evaluation_seed=seed)
        study.add("evaluate", f"a-2-{seed}", tested, "mine/search/a-2", params, arm="a", evaluation_seed=seed)
    third = {**ten, "evaluation_seed": 2}
    study.add("evaluate", "unselected", {"last_test_accuracy": 65.0}, "mine/search/a-2", third, arm="a")
    tested = {"last_test_accuracy": 30.0}
    study.add("evaluate-100", "a", tested, select, hundred, notebook="06_evaluate", arm="a")
    study.add("evaluate", "missing", None, "mine/search/a-20", ten, arm="a")
    return tmp_path / "mine"


def test_search_is_one_row_with_its_measures(study: Path):
    row, other = read_evidence("mine").searches
    assert (row["validation_accuracy"], row["seconds"], row["eigenvalue"], row["drop"]) == (92.0, 6.0, 0.25, 14.5)
    assert (row["direct_share"], row["least_direct_share"]) == (0.375, 0.25)
    assert (row["learning_rate"], row["skip_free"], row["full"]) == (0.05, 0.0, False)
    assert (other["search_seed"], other["skip_free"]) == (20, 1.0)


def test_cell_is_one_row_per_data_set(study: Path):
    ten, hundred = read_evidence("mine").cells
    assert (ten["data"], ten["last_test_accuracy"], ten["accuracies"]) == ("cifar10", 63.0, [60.0, 64.0, 65.0])
    assert (hundred["data"], hundred["last_test_accuracy"], hundred["search_data"]) == ("cifar100", 30.0, "cifar10")
    assert {cell["search_seed"] for cell in (ten, hundred)} == {2} and ten["selected"]


def test_every_claim_has_a_row_for_an_unfinished_study(study: Path):
    found, _ = verdicts(read_evidence("mine"))
    assert list(found["id"]) == [claim.id for claim in CLAIMS]
    assert set(found["verdict"]) == {"not run here"}
    assert found["result"].str.startswith("missing: ").all()


def test_p_of_every_test_is_adjusted_for_all_tests_of_the_page(monkeypatch: pytest.MonkeyPatch):
    claims = [
        Claim("first", "a is better than b", 1, "", higher("a", "b")),
        Claim("both", "a is better than b and c", 1, "", higher("a", "b", "c")),
        Claim("missing", "d is better", 1, "", higher("d", "a")),
    ]
    monkeypatch.setattr("hdarts.workbook.claims.CLAIMS", claims)
    table, tests = verdicts(evidence(BETTER | {"c": BETTER["a"]}), {"other": 0.02, "not made": math.nan})
    assert tests["test"].tolist() == ["first", "both", "both", "other"]
    assert tests["p"].tolist() == [0.03125, 0.03125, 1.0, 0.02]
    assert tests["p_holm"].tolist() == [0.09375, 0.09375, 1.0, 0.08]
    assert table["p"].tolist() == ["0.031", "0.031; 1", ""] and table["p_holm"].tolist() == ["0.094", "0.094; 1", ""]


def test_p_of_a_claim_with_a_margin_is_that_of_the_deciding_test():
    known = evidence({"a": [90.0, 90.1, 90.2, 89.9, 90.0, 90.1], "b": [90.1, 90.0, 90.1, 90.1, 90.2, 90.0]})
    finding = assess(known, higher("a", "b", margin=0.5))
    assert finding.p == (0.03125,) and "p = 0.031" in finding.result


def test_arms_of_two_stages_are_not_pooled():
    rows = [row | {"stage": stage} for stage in ("short", "long") for row in evidence(BETTER).searches]
    finding = assess(Evidence("thesis", rows, [], []), higher("a", "b"))
    assert finding.verdict == "not run here" and "arm a is in short and long" in finding.result


def test_every_claim_has_a_row_for_a_study_that_was_never_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    table, tests = verdicts(read_evidence("nothing"))
    assert set(table["verdict"]) == {"not run here"} and tests.empty and set(table["p"]) == {""}


def test_intervals_keep_search_seeds_and_evaluation_seeds_apart(study: Path):
    rows = intervals(read_evidence("mine")).to_dict("records")
    assert [(row["over"], row["n"], row["mean"]) for row in rows] == [
        ("search seeds", 2, 101.0),
        ("evaluation seeds", 3, 63.0),
        ("evaluation seeds", 1, 30.0),
    ]
    assert rows[0]["sd"] == pytest.approx(18 / 2**0.5)


def test_arm_of_several_cells_has_the_interval_of_their_means():
    cells = [
        {"arm": "a", "last_test_accuracy": value, "accuracies": [value - 1, value + 1]} for value in (90.0, 92.0, 94.0)
    ]
    last = intervals(of_cells(cells)).to_dict("records")[-1]
    assert (last["over"], last["n"], last["mean"]) == ("cells", 3, 92.0)
    assert (last["t_low"], last["t_high"]) == pytest.approx((92 - 4.302653 * 2 / 3**0.5, 92 + 4.302653 * 2 / 3**0.5))


def test_best_of_n_is_compared_with_the_best_of_n_random_cells():
    cells = [{"arm": "a", "last_test_accuracy": value, "selected": value == 91.0} for value in (90.0, 91.0)]
    random = [{"arm": "random", "last_test_accuracy": value} for value in (90.0, 92.0, 94.0)]
    (row,) = best_of_n(of_cells(cells + random)).to_dict("records")
    assert (row["searches"], row["best"], row["chance"]) == (2, 91.0, pytest.approx((92 + 94 + 94) / 3))
    (row,) = best_of_n(of_cells(cells + random[:1])).to_dict("records")
    assert pd.isna(row["chance"])


def test_tables_of_a_study_that_was_never_started_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    assert intervals(read_evidence("nothing")).empty and best_of_n(read_evidence("nothing")).empty


def test_verdicts_link_to_the_folders_of_their_runs(study: Path):
    verdict = pd.DataFrame([{"claim": "faster <b>", "runs": "mine/search/a-2 mine/search/a-20"}])
    page = with_links(verdict, study / "analysis" / "one").to_html()
    assert '<a href="../../search/a-2">a-2</a>' in page and '<a href="../../search/a-20">a-20</a>' in page
    assert "faster &lt;b&gt;" in page


def test_quotes_of_claims_are_on_their_lines(thesis_lines: list[str]):
    for claim in CLAIMS:
        assert claim.quote in thesis_lines[claim.line], claim


def test_every_claim_has_a_rule_that_accepts_its_arguments():
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS) >= 16
    for claim in CLAIMS:
        assess(evidence(BETTER), claim.rule)
