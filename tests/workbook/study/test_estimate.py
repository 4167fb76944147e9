"""The estimate of a study: steps are measured in separate processes, and counted as the loops count them."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.small_runs import EVALUATION, SEARCH, computed, params

import hdarts.search.steps
from hdarts.data import DatasetInfo
from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.cuda_graph import CudaGraph
from hdarts.space import DARTS, discretise
from hdarts.workbook.study import estimate as e
from hdarts.workbook.study import plan_study
from hdarts.workbook.study.flops import flops_of_run
from hdarts.workbook.study.probe import Probe, StepCost, measure_step, steps

IMAGES = DatasetInfo(80, 80, (3, 8, 8), 10)
CELL = discretise(torch.zeros(DARTS.alpha_shape), DARTS)
STUDY = """
study: mine
stages:
  search:
    notebook: 03_search
    parameters: {data: DATA, limit: 80, channels: 2, layers: 3, batch_size: 16}
    matrix: {search_seed: [2, 20], epochs: [4, 8]}
"""


def search(**changes) -> SearchParams:
    found = params({**SEARCH, **changes})
    assert isinstance(found, SearchParams)
    return found


def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    (tmp_path / "mine.yaml").write_text(STUDY.replace("DATA", data))
    return plan_study(tmp_path / "mine.yaml").runs


def test_a_search_and_a_training_are_measured_at_their_batch_sizes() -> None:
    found = measure_step(Probe(search(), IMAGES, CELL, 1), 60)
    assert isinstance(found, StepCost) and found.batch == 16
    assert (
        set(found.seconds) == {"alpha_step", "weight_step", "accuracy"}
        and min(found.seconds.values()) > 0
        and found.memory > 0
    )
    training = params(EVALUATION)
    assert isinstance(training, EvaluateParams)
    found = measure_step(Probe(training, IMAGES, CELL, 1), 60)
    assert isinstance(found, StepCost) and set(found.seconds) == {"weight_step", "accuracy"}


def test_the_costliest_stage_of_a_search_is_measured_with_its_candidates_and_draws() -> None:
    stages = [{"epochs": 1}, {"epochs": 1, "layers": 4, "operations": 2, "skip_dropout": 0.5}]
    for changes in ({"epochs": 2, "stages": stages}, {"parametrisation": "gumbel-hard"}):
        found = measure_step(Probe(search(**changes), IMAGES, CELL, 1), 60)
        assert isinstance(found, StepCost) and min(found.seconds.values()) > 0


def test_each_cuda_graph_has_batches_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: dict[CudaGraph, set[int]] = {}

    class Recorded(CudaGraph):
        def __call__(self, *inputs):
            sizes.setdefault(self, set()).update(len(x[1]) for x in inputs if not isinstance(x, torch.Tensor))
            return super().__call__(*inputs)

    monkeypatch.setattr(hdarts.search.steps, "CudaGraph", Recorded)
    rows = list(steps(Probe(search(), IMAGES, CELL, 1), tmp_path))
    assert {row["batch"] for row in rows} == {2, 4, 8, 16}
    assert max(map(len, sizes.values())) == 1


def test_a_step_that_takes_too_long_is_ended_with_the_reason() -> None:
    large = search(channels=64, layers=20)
    assert (
        measure_step(Probe(large, DatasetInfo(80, 80, (3, 256, 256), 10), CELL, 1), 1) == "a step takes more than 1 s"
    )


def test_a_smaller_batch_is_extrapolated_linearly() -> None:
    rows = pd.DataFrame({"batch": [2, 4, 4, 4], "memory": [100.0, 120, 120, 120], "weight_step": [0.1, 0.2, 0.15, 0.9]})
    found = StepCost.of(rows, 8)
    assert found.batch == 4 and found.memory == 160
    assert found.seconds["weight_step"] == pytest.approx(0.2 + 2 * 0.1)


def test_steps_are_counted_as_a_search_takes_them(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    list(computed(SEARCH))
    steps = len(pd.read_csv(tmp_path / "run" / "hypergradients.csv"))
    counted = e.repetitions(search(), IMAGES)
    assert counted["weight_step"] == counted["alpha_step"] == steps == 15
    assert counted["accuracy"] == 3 * 5 + 3 * 5, "validation, and once more for the discrete cell"
    tuned = e.repetitions(search(selection="perturbation", tuning_epochs=1, space="nasbench201", layers=1), IMAGES)
    assert tuned == {"weight_step": 8 * 5, "alpha_step": 8 * 5, "accuracy": (8 + 8 + 6 * 5) * 5}


def test_the_largest_of_each_method_is_measured_first() -> None:
    names = {
        name: e.cost_key(Probe(search(**changes), IMAGES, CELL, 1))
        for name, changes in {
            "small": {"method": "darts-first"},
            "large": {"method": "darts-first", "channels": 8},
            "linear": {"hypernetwork": "linear"},
        }.items()
    }
    ordered = e.measuring_order(
        [(names["small"], 1.0), (names["linear"], 2.0), (names["large"], 3.0), (names["linear"], 2.0)]
    )
    assert ordered == [names["linear"], names["large"], names["small"]]


def test_an_unmeasured_cost_is_scaled_from_the_most_similar_one() -> None:
    wanted, known = (e.cost_key(Probe(search(channels=c), IMAGES, CELL, 1)) for c in (8, 2))
    found = e.scaled(wanted, {known: StepCost({"weight_step": 1.0}, 100.0, 16)})
    assert found is not None and found.seconds == {"weight_step": 4.0} and found.memory == 400
    assert e.scaled(wanted, {}) is None


def test_runs_with_one_cost_key_are_measured_once_and_nothing_is_written(tmp_path, monkeypatch) -> None:
    probes = []

    def once(probe: Probe, limit: float) -> StepCost:
        probes.append(probe)
        return StepCost({"alpha_step": 0.1, "weight_step": 0.2, "accuracy": 0.3}, 1024.0, 16)

    monkeypatch.setattr(e, "measure_step", once)
    found = e.estimate(planned(tmp_path, monkeypatch, "generated"), jobs=2)
    assert len(probes) == 1
    images = DatasetInfo(40, 40, (3, 8, 8), 10)
    both = [run.params for run in planned(tmp_path, monkeypatch, "generated")[:2]]
    assert found.table["PFLOP"].astype(float).tolist() == [
        pytest.approx(2 * sum(flops_of_run(params, images) for params in both) / 1e15, rel=0.005)  # type: ignore[arg-type]
    ]
    times = [e.repetitions(search(epochs=n, limit=80, batch_size=16), images) for n in (4, 8)]
    seconds = 2 * sum(0.1 * t["alpha_step"] + 0.2 * t["weight_step"] + 0.3 * t["accuracy"] for t in times)
    assert found.table["hours"].tolist() == [pytest.approx((seconds + 4 * e.NOTEBOOK) / 3600, abs=0.006)]
    assert found.table["to do"].tolist() == [4]
    assert not (tmp_path / "runs").exists()


def test_missing_images_are_named(tmp_path, monkeypatch) -> None:
    with pytest.raises(ParameterError, match=r"run mine/search/.*: .*nowhere"):
        e.estimate(planned(tmp_path, monkeypatch, "nowhere"), jobs=1)


def test_runs_of_unknown_cost_are_counted_separately(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(e, "measure_step", lambda probe, limit: "a step takes more than 10 s")
    found = e.estimate(planned(tmp_path, monkeypatch, "generated"), jobs=1)
    assert found.table["hours"].tolist() == [0.0] and found.notes[0].startswith("not included: 4 runs")
