"""TensorBoard's event files have the rows of metrics.csv, each epoch once; no other file changes."""

import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from helpers.command import called
from helpers.small_runs import EVALUATION, SEARCH, computed, contents

from hdarts.errors import ParameterError
from hdarts.params import Parameters
from hdarts.runs.run import Run
from hdarts.runs.tensorboard import need_tensorboard

KINDS = pytest.mark.parametrize("kind", [SEARCH, EVALUATION], ids=["search", "evaluation"])
ENABLED = {"tensorboard": True}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    monkeypatch.setenv("HDARTS_PROGRESS", "none")
    return tmp_path


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard shows of a run: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def of_the_table(folder: Path) -> dict[str, Any]:
    """Return the same from metrics.csv, up to the single precision of event files."""
    table = pd.read_csv(folder / "metrics.csv").set_index("epoch")
    return {
        str(name): [(step, pytest.approx(value, rel=1e-6)) for step, value in column.dropna().items()]
        for name, column in table.items()
        if column.notna().any()
    }


@KINDS
def test_all_other_files_are_the_same_with_and_without(kind: dict[str, Any], runs: Path) -> None:
    list(computed(kind | {"run": "without"}))
    list(computed(kind | {"run": "with"} | ENABLED))
    without, enabled = contents(runs / "without"), contents(runs / "with")
    recorded = [yaml.safe_load(files.pop("params.yaml")) for files in (without, enabled)]
    assert {name for name in recorded[0] if recorded[0][name] != recorded[1][name]} == {"run", "tensorboard"}
    events = {name: enabled.pop(name) for name in list(enabled) if name.startswith("tensorboard/")}
    assert len(events) == 1 and enabled == without
    assert scalars(runs / "with") == of_the_table(runs / "with")
    assert {"train_loss", "learning_rate"} <= set(scalars(runs / "with"))


@KINDS
def test_after_a_kill_each_epoch_is_present_once(kind: dict[str, Any], runs: Path, monkeypatch) -> None:
    """Stopped after the second epoch, and again after the last, before the result."""
    rows = computed(kind | ENABLED)
    list(islice(rows, 2))
    rows.close()  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "finish", lambda run, result: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(computed(kind | ENABLED))
    (left,) = (runs / "run" / "tensorboard").iterdir()
    left.write_bytes(left.read_bytes()[:100])
    list(computed(kind | ENABLED))
    assert scalars(runs / "run") == of_the_table(runs / "run")
    assert [step for step, _ in scalars(runs / "run")["train_loss"]] == [1, 2, 3]


def test_event_files_can_be_enabled_later_without_renaming_the_run(runs: Path) -> None:
    rows = computed(EVALUATION)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    list(computed(EVALUATION | ENABLED))
    assert scalars(runs / "run") == of_the_table(runs / "run")
    assert "tensorboard" in Parameters.not_identifying


def test_a_missing_package_is_reported_in_one_sentence_before_any_work(runs: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ParameterError, match=r"pip install 'hdarts\[tensorboard\]'"):
        need_tensorboard()
    file = runs / "params.yaml"
    file.write_text(yaml.safe_dump({name: value for name, value in EVALUATION.items() if name != "notebook"} | ENABLED))
    assert called(monkeypatch, "evaluate", file) == 2
    study = runs / "study.yaml"
    study.write_text("study: tried\nstages: {search: {notebook: 03_search, parameters: {tensorboard: true}}}")
    assert called(monkeypatch, "run", study) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("needs a package that is not installed: pip install") == err.count("\n") == 2
    assert {path.name for path in runs.iterdir()} == {"params.yaml", "study.yaml"}
