"""timings.csv: the steps of an epoch are timed apart from measurements, also when it is stopped in its middle."""

import math
import signal
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import ROOT
from helpers.small_runs import EVALUATION, SEARCH, computed, params, signal_at

import hdarts.search.log
import hdarts.search.loop
import hdarts.train.loop
from hdarts.data import Batches
from hdarts.errors import Stopped
from hdarts.runs import checkpoint
from hdarts.runs.run import Run

BATCHES = {"epochs": 2, "limit": 80, "batch_size": 16, "checkpoint_minutes": 1e6}
KINDS: dict[str, Any] = {
    "search": {**SEARCH, **BATCHES, "method": "darts-first"},
    "ranking": {**SEARCH, **BATCHES, "method": "shared-weights", "candidates": 2},
    "evaluation": {**EVALUATION, **BATCHES, "genotype": str(ROOT / "params" / "genotypes" / "darts-v2.json")},
}


@pytest.fixture(autouse=True)
def taken(tmp_path, monkeypatch) -> list[int]:
    """Steps and images; in their clock a step takes 1 s, measuring after an epoch 100 s, a ranking 1000 s."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    now, taken = [0.0], [0, 0]
    for module in (hdarts.search.log, hdarts.search.loop, hdarts.train.loop):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0]))

    def taking(seconds: float, function: Any) -> Any:
        def slow(*arguments: Any, **more: Any) -> Any:
            now[0] += seconds
            return function(*arguments, **more)

        return slow

    for module, name, seconds in (
        (hdarts.search.loop, "measure_epoch", 100),
        (hdarts.train.loop, "test_network", 100),
        (hdarts.search.loop, "rank", 1000),
    ):
        monkeypatch.setattr(module, name, taking(seconds, getattr(module, name)))
    whole = Batches.epoch

    def epoch(self: Batches, seed: int, purpose: str, at: int, start: int = 0, number: int = 0) -> Any:
        for batch in whole(self, seed, purpose, at, start, number):
            if purpose != "outer":
                now[0] += 1
                taken[:] = taken[0] + 1, taken[1] + len(batch[1])
            yield batch

    monkeypatch.setattr(Batches, "epoch", epoch)
    return taken


def timings(kind: str) -> list[dict[str, float]]:
    return Run.open(params(KINDS[kind])).table("timings").to_dict("records")


def stopped_in_the_middle(kind: str, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, 1, step, signal.SIGTERM)
        with pytest.raises(Stopped):
            list(computed(KINDS[kind]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [None, 0, 1])
def test_seconds_are_those_of_the_steps_whether_stopped_or_not(kind, stop, taken):
    if stop is not None:
        stopped_in_the_middle(kind, stop)
    list(computed(KINDS[kind]))
    rows = timings(kind)
    steps, images = taken[0] / 2, taken[1] / 2
    for row, epoch in zip(rows, (1, 2), strict=False):
        expected = {"epoch": epoch, "seconds": steps, "measuring_seconds": 100, "images_per_second": images / steps}
        assert row == expected
    if kind == "ranking":
        assert (rows[2]["epoch"], rows[2]["seconds"], rows[2]["measuring_seconds"]) == (3, 0, 1000)
    assert len(rows) == (3 if kind == "ranking" else 2)


@pytest.mark.parametrize("kind", ["search", "evaluation"])
def test_a_checkpoint_of_an_earlier_version_has_no_time_and_leaves_one_epoch_without(kind, monkeypatch):
    save = checkpoint.save

    def without_seconds(folder, state, *more):
        del state["seconds"]
        save(folder, state, *more)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", without_seconds)
        stopped_in_the_middle(kind, 1)
    list(computed(KINDS[kind]))
    one, two = timings(kind)
    assert math.isnan(one["seconds"]) and math.isnan(one["images_per_second"]) and one["measuring_seconds"] == 100
    assert two["seconds"] > 0 and two["images_per_second"] > 0
