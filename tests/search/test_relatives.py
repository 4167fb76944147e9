"""Every preset of a relative of DARTS runs to its end, in a tiny size, and resumes to the bit after a kill."""

import math
from pathlib import Path
from typing import Any

import pytest

from hdarts.params import SearchParams, check, notebook_defaults, read_yaml
from hdarts.runs.run import Run
from hdarts.search import State, search
from hdarts.space import NASBENCH201
from tests.helpers import ROOT

PRESETS = sorted((ROOT / "params" / "search").glob("*.yaml"))
# in the space of DARTS, of methods whose preset in NAS-Bench-201 is killed here; these are killed by `make soak`
SLOW = ("beta-darts", "darts-minus", "gdas", "idarts", "sdarts-adv", "sdarts-rs", "snas")
DEFAULTS = notebook_defaults(ROOT / "notebooks" / "03_search.ipynb")
TINY = {"data": "generated", "limit": 48, "crop_padding": 0, "batch_size": 12, "channels": 4, "log_every": 1}
TINY |= {"checkpoint_minutes": 1e-6, "candidates": 0, "keep_checkpoint": True, "flip": False}


def tiny(path: Path) -> dict[str, Any]:
    """Return the parameters of a preset with few small images, few epochs and a small network."""
    values = {**DEFAULTS, "method": "darts-first", **read_yaml(path), **TINY}  # presets of sizes name no method
    values["channels"] = 4 if 4 % values.get("partial_channels", 1) == 0 else 12  # 6 in DrNAS
    warmup = values.get("warmup_epochs", 0)
    blank = warmup >= values["epochs"]  # alpha never moves
    values |= {
        "layers": 1 if values["space"].startswith(("nasbench201", "single")) else 3,
        "epochs": 2,
        "schedule_epochs": 0,
    }
    values |= {"warmup_epochs": values["epochs"] if blank else min(1, warmup), "tuning_epochs": 1}
    if values.get("selection") == "perturbation" and values["space"].startswith("darts"):
        values["space"] = "s2"  # all edges, but two candidates on each: a third of the decisions' validations
    if values.get("stages"):
        values["stages"] = [stage | short(stage) for stage in values["stages"]]
        values["epochs"] = sum(stage["epochs"] for stage in values["stages"])
    return values


def short(stage: dict[str, Any]) -> dict[str, int]:
    """Return a stage of one epoch in which alpha is frozen, if it has any, and one in which alpha is stepped."""
    warmup = stage.get("warmup_epochs", 0)
    return {"layers": 3, "warmup_epochs": min(1, warmup), "epochs": min(1, warmup) + (warmup < stage["epochs"])}


class Killed(Exception):
    pass


def files(run: Run) -> dict[str, bytes]:
    """Return what a run has computed: all files that do not depend on the clock."""
    names = ("metrics.csv", "alpha.csv", "hypergradients.csv", "genotype.json", "result.json", "truth.csv")
    return {name: (run.folder / name).read_bytes() for name in names if (run.folder / name).exists()}


@pytest.mark.filterwarnings("ignore::hdarts.hypergradient.HypergradientWarning")  # the tiny networks have no minimum
@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[pytest.mark.soak] * (p.stem in SLOW)) for p in PRESETS], ids=lambda path: path.stem
)
def test_every_preset_runs_to_its_end_and_a_killed_run_ends_with_the_same_files(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    params = check(SearchParams, tiny(path))
    whole = Run.open(params.model_copy(update={"run": "whole"}))
    counts = counted(monkeypatch)
    rows = list(search(params, whole))
    counts["left"] = counts["steps"]
    assert whole.done
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(math.isfinite(row["validation_accuracy"]) for row in rows)
    killed = Run.open(params.model_copy(update={"run": "killed"}))
    if counts["left"] > 1:
        counts.update(steps=0, last=counts["left"] // 2)
        with pytest.raises(Killed):
            list(search(params, killed))
    counts["last"] = math.inf
    list(search(params, killed))
    assert files(killed) == files(whole)


@pytest.mark.filterwarnings("ignore::hdarts.hypergradient.HypergradientWarning")
@pytest.mark.parametrize("name", SLOW)
def test_these_presets_run_to_their_end_as_well(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    params = check(SearchParams, tiny(ROOT / "params" / "search" / f"{name}.yaml"))
    rows = list(search(params, run := Run.open(params)))
    assert run.done and all(math.isfinite(row["validation_accuracy"]) for row in rows)


def test_the_alpha_of_blank_perturbation_stays_uniform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    params = check(SearchParams, tiny(ROOT / "params" / "search" / "nasbench201-blank-pt.yaml"))
    list(search(params, run := Run.open(params)))
    values = run.table("alpha")[list(NASBENCH201.operations)].to_numpy()
    assert set(values[values > -math.inf]) == {0.0}
    decided = run.table("perturbation")
    assert sum(decided["kept"].tolist()) == len(NASBENCH201.edges)


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Count the steps of searches, and raise `Killed` in place of the one after `last`."""
    counts, take = {"steps": 0, "left": 0, "last": math.inf}, State.count

    def count(state: State, *arguments: Any) -> None:
        if counts["steps"] == counts["last"]:
            raise Killed
        counts["steps"] += 1
        take(state, *arguments)

    monkeypatch.setattr(State, "count", count)
    return counts
