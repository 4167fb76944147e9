"""The stem for large images, from the search to the trained network, in both spaces."""

from pathlib import Path

import pytest
from helpers.small_runs import EVALUATION, SEARCH, computed, params

from hdarts.data import DatasetInfo
from hdarts.errors import ParameterError
from hdarts.params import identity
from hdarts.runs import checkpoint
from hdarts.workbook.study import PlannedRun
from hdarts.workbook.study import estimate as e
from hdarts.workbook.study.preflight import preflight
from hdarts.workbook.study.probe import Probe, StepCost

LARGE = {"stem": "imagenet", "image_size": 40, "limit": 60, "epochs": 1}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("space", ["darts", "nasbench201"])
def test_a_cell_is_searched_and_evaluated_behind_it(space: str, runs: Path):
    (row,) = computed({**SEARCH, **LARGE, "space": space, "run": "search", "hypernetwork": "mlp", "rest": "generated"})
    assert 0 <= row["validation_accuracy"] <= 100
    (row,) = computed({**EVALUATION, **LARGE, "genotype": "search", "run": "evaluation"})
    assert 0 <= row["test_accuracy"] <= 100
    names = checkpoint.read(runs / "evaluation/checkpoint.pt")["network"]
    assert names["stem.0.weight"].shape == (1, 3, 3, 3) and names["stem.4.weight"].shape == (2, 2, 3, 3)


@pytest.mark.parametrize("kind", [SEARCH, EVALUATION], ids=["search", "evaluation"])
def test_small_images_are_refused_before_a_kernel_starts_and_before_any_file(kind, runs: Path):
    wrong = params({**kind, **LARGE, "image_size": 28, "batch_size": 10})
    message = "stem: imagenet needs images of 32x32 pixels or more, not 28x28; set stem: cifar"
    with pytest.raises(ParameterError, match=message):
        preflight([PlannedRun("mine/one", "one", Path("n"), wrong, {}, ())])
    with pytest.raises(ParameterError, match=message):
        next(computed({**kind, **LARGE, "image_size": 28}))
    assert not list(runs.rglob("metrics.csv"))


def test_it_names_another_run_and_its_steps_are_estimated_by_its_maps():
    small, large = (params({**SEARCH, "stem": stem}) for stem in ("cifar", "imagenet"))
    assert identity(small) == identity(params(SEARCH)) != identity(large)
    info = DatasetInfo(80, 80, (3, 224, 224), 10)
    keys = [e.cost_key(Probe(p, info, None, 1)) for p in (small, large)]  # type: ignore[arg-type]
    found = e.scaled(keys[1], {keys[0]: StepCost({"weight_step": 64.0}, 100.0, 16)})
    assert found is not None and found.seconds == {"weight_step": 1.0}
