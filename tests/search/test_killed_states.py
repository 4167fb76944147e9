"""States that methods keep between steps: a search killed in the middle of an epoch ends as one that was not."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import small_runs

from hdarts import hypergradient as hg

KILLS_ITSELF = """
import json, signal, sys, pytest
from helpers.small_runs import computed, signal_at
signal_at(pytest.MonkeyPatch(), 2, 2, signal.SIGKILL)
list(computed(json.loads(sys.argv[1])))
"""
TANGENT = {"hypernetwork": "low-rank", "rank": 2, "centred": True, "response_update": "tangent", "noise": 0.0}
SMALL = {**small_runs.SEARCH, "epochs": 2, "space": "nasbench201", "layers": 1, "limit": 60}
STEPS = 3  # an epoch
KEPT: dict[str, dict[str, Any]] = {
    "amortised-adjoint": {"method": "amortised-adjoint", "adjoint_step": 0.01, "noise": 0.0},
    "tangent": TANGENT,
    "s4, whose operation noise is drawn": {"method": "darts-first", "space": "s4", "layers": 3, "noise": 0.0},
    "graph": {"hypernetwork": "graph", "hidden_size": 4, "message_rounds": 1},
    "nystrom": {"method": "nystrom", "rank": 3, "damping": 10.0, "noise": 0.0},
}
quiet = pytest.mark.filterwarnings("ignore::hdarts.hypergradient.HypergradientWarning")  # there is no minimum


@quiet
@pytest.mark.parametrize("method", KEPT)
def test_a_search_that_sigkill_ends_within_an_epoch_resumes_to_the_same_bits(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {**SMALL, **KEPT[method]}
    environment = {**small_runs.environment(tmp_path / "killed"), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", KILLS_ITSELF, json.dumps(kind)]
    killed = subprocess.Popen(command, env=environment)
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    assert len(list(small_runs.computed(kind))) == 2
    assert killed.wait() == -signal.SIGKILL
    folder = tmp_path / "killed" / "run"
    assert not (folder / "result.json").exists() and (folder / "checkpoint.pt").exists()
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "killed"))
    assert [row["epoch"] for row in small_runs.computed(kind)] == [2]
    assert small_runs.differences(tmp_path / "whole", tmp_path / "killed") == []


@quiet
def test_nystrom_draws_its_columns_anew_in_each_step_and_the_same_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn, method = [], hg.nystrom

    def recorded(problem: Any, w: Any, alpha: Any, inner: Any, outer: Any, columns: Any, damping: float) -> Any:
        drawn.append(tuple(columns.tolist()))
        return method(problem, w, alpha, inner, outer, columns, damping)

    monkeypatch.setattr(hg, "nystrom", recorded)
    kind = {**SMALL, **KEPT["nystrom"]}
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "whole"))
    assert len(list(small_runs.computed(kind))) == 2
    whole = drawn.copy()
    assert len(whole) == len(set(whole)) == 2 * STEPS
    assert all(len(set(columns)) == 3 for columns in whole)
    drawn.clear()
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "broken"))
    next(iter(small_runs.computed(kind)))
    resumed = list(small_runs.computed(kind))
    assert len(resumed) == 1 and drawn == whole
