"""The run folder: names stay below runs/, files are written atomically, tables are read back exactly."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdarts.errors import ParameterError
from hdarts.params import ToyBilevelParams, check
from hdarts.runs import paths
from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import below_runs, runs_folder, with_defaults
from hdarts.runs.run import Run, read_result


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    folder = tmp_path / "runs"
    monkeypatch.setenv("HDARTS_RUNS", str(folder))
    return folder


def recorded(params: ToyBilevelParams) -> Run:
    """Open a run and write its first file."""
    (run := Run.open(params)).record()
    return run


def toy(run: str = "", seed: int = 1) -> ToyBilevelParams:
    return check(ToyBilevelParams, {"run": run, "seed": seed, "most_steps": 4})


def test_the_environment_variable_sets_the_runs_folder(runs, tmp_path, monkeypatch):
    assert runs_folder() == runs
    monkeypatch.delenv("HDARTS_RUNS")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paths, "checkout", lambda: None)
    assert runs_folder() == tmp_path / "runs"


def test_other_parameters_have_the_defaults_of_the_notebook():
    params = with_defaults(ToyBilevelParams, {"seed": 7})
    assert (params.run, params.seed) == ("", 7)
    assert with_defaults(ToyBilevelParams, params.model_dump()) == params
    with pytest.raises(ParameterError, match="unknown parameter `sed` for stage toy_bilevel: did you mean `seed`"):
        with_defaults(ToyBilevelParams, {"sed": 7})


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "\x00"])
def test_a_file_without_a_json_object_is_read_as_none(tmp_path, content):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert read_result(tmp_path) is None


def test_a_run_is_created_once_and_opened_again(runs):
    run = Run.open(toy())
    assert list(run.folder.iterdir()) == [], "parameters that turn out wrong occupy no name"
    run.record()
    assert run.folder.relative_to(runs).parts[:2] == ("interactive", "toy_bilevel")
    written = (run.folder / "params.yaml").stat().st_mtime_ns
    assert recorded(toy()).folder == run.folder
    assert (run.folder / "params.yaml").stat().st_mtime_ns == written
    assert not run.done


def test_a_run_keeps_the_name_that_an_earlier_release_gave_it(runs):
    name = recorded(toy()).name
    (runs / name).rename(runs / name.replace("/toy_bilevel-", "/older-"))
    assert Run.open(toy()).name == name.replace("/toy_bilevel-", "/older-") and Run.open(toy(seed=2)).name != name


def test_other_parameters_get_another_folder_but_are_refused_in_a_named_one():
    assert Run.open(toy(seed=1)).folder != Run.open(toy(seed=2)).folder
    late = Run.open(toy("mine/run", seed=2))
    recorded(toy("mine/run", seed=1))
    for refused in (lambda: Run.open(toy("mine/run", seed=2)), late.write_provenance):
        with pytest.raises(ParameterError, match=r"mine/run belongs to other parameters \(seed: 1 there, 2 here\)"):
            refused()


def test_a_folder_with_unreadable_parameters_is_refused_unchanged(runs):
    file = recorded(toy("mine")).folder / "params.yaml"
    file.write_bytes(b"seed: [1")
    with pytest.raises(ParameterError, match=r"params\.yaml: cannot be read as YAML"):
        Run.open(toy("mine"))
    assert file.read_bytes() == b"seed: [1"


@pytest.mark.parametrize(
    "name", ["..", ".", "../other", "a/../..", "a/..", "/etc/hdarts", "a\0b", "\ud800", "", "a/../../runs"]
)
def test_names_that_lead_out_of_the_runs_folder_are_refused(name: str):
    with pytest.raises(ParameterError, match="leads out of the runs folder"):
        below_runs(name)


def test_links_that_lead_out_of_the_runs_folder_are_refused(runs, tmp_path):
    (tmp_path / "outside").mkdir()
    runs.mkdir()
    (runs / "link").symlink_to(tmp_path / "outside")
    (runs / "circle").symlink_to(runs / "circle")
    with pytest.raises(ParameterError, match="leads out"):
        Run.open(toy("link/run"))
    with pytest.raises(ParameterError):
        Run.open(toy("circle/run"))
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_runs_folder_may_itself_be_a_link(runs, tmp_path):
    (tmp_path / "large-disk").mkdir()
    runs.symlink_to(tmp_path / "large-disk")
    assert Run.open(toy("mine")).folder == tmp_path / "large-disk" / "mine"


@given(name=st.text(st.sampled_from("ab./~\\ \0\n:")) | st.text(st.characters(), max_size=400))
@settings(max_examples=200, deadline=None)
def test_any_name_is_below_the_runs_folder_or_refused(name: str):
    with contextlib.suppress(ParameterError):
        assert below_runs(name).is_relative_to(runs_folder())


@pytest.mark.parametrize("name", ["x" * 300, "file/run"])
def test_the_error_names_a_folder_that_cannot_be_created(runs, name: str):
    runs.mkdir()
    (runs / "file").write_text("")
    with pytest.raises(ParameterError, match=r"run folder .* cannot be written"):
        recorded(toy(name))


WRITER = """
import sys
from pathlib import Path
from hdarts.runs.atomic import write_atomic
contents = [letter.encode() * int(sys.argv[2]) for letter in "ab"]
while True:
    for content in contents:
        write_atomic(Path(sys.argv[1]), content)
"""


def test_a_file_is_complete_when_its_writer_is_killed(tmp_path):
    size = 2_000_000
    paths = [tmp_path / str(number) / "table.csv" for number in range(4)]
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(size)]) for path in paths]
    try:
        for path in paths:
            while not path.exists():
                time.sleep(0.01)
        for number, writer in enumerate(writers):
            time.sleep(0.0137 * number)
            writer.send_signal(signal.SIGKILL)
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    for path in paths:
        content = path.read_bytes()
        assert len(content) == size
        assert content in (b"a" * size, b"b" * size)


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace"), (Path, "open")])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, owner, step: str):
    path = tmp_path / "table.csv"
    write_atomic(path, "old")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, full)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["table.csv"]


def test_a_write_creates_folders_and_leaves_no_other_file(tmp_path):
    write_atomic(tmp_path / "a" / "b.txt", "é")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "é".encode()
    assert len(list((tmp_path / "a").iterdir())) == 1


ROWS = [
    {"epoch": 0, "loss": 0.1, "tiny": 1e-300, "gap": math.nan, "mix": 1, "op": "none", "ok": True, "text": "a,b"},
    {"epoch": 1, "loss": 1 / 3, "tiny": 5e-324, "gap": 2.5, "mix": math.nan, "op": "None", "ok": False, "text": '"'},
    {"epoch": 2, "loss": -0.0, "tiny": math.inf, "gap": math.nan, "mix": 3, "op": "NA", "ok": True, "text": "é\n"},
]  # fmt: skip


def test_a_table_that_is_read_and_written_again_is_the_same_text():
    run = Run.open(toy())
    run.write_table("metrics", ROWS)
    first = (run.folder / "metrics.csv").read_bytes()
    for _ in range(2):
        run.write_table("metrics", run.table("metrics"))
        assert (run.folder / "metrics.csv").read_bytes() == first


ROW = st.fixed_dictionaries({"x": st.floats(), "n": st.integers(-(2**63), 2**63 - 1)})


@given(rows=st.lists(ROW, min_size=2, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_table_continued_after_reading_equals_one_written_at_once(tmp_path_factory, rows):
    run = Run(tmp_path_factory.getbasetemp(), toy())
    run.write_table("continued", rows[:1])
    for row in rows[1:]:
        run.write_table("continued", [*run.table("continued").to_dict("records"), row])
    run.write_table("whole", rows)
    assert (run.folder / "continued.csv").read_bytes() == (run.folder / "whole.csv").read_bytes()


def test_numbers_and_words_of_a_table_are_read_back_exactly():
    run = Run.open(toy())
    run.write_table("metrics", ROWS)
    pd.testing.assert_frame_equal(run.table("metrics"), pd.DataFrame(ROWS), check_exact=True)


def test_a_table_that_is_missing_or_has_no_rows_is_empty():
    run = Run.open(toy())
    assert run.table("metrics").empty
    run.write_table("metrics", [])
    assert run.table("metrics").empty


@pytest.mark.parametrize("content", [b"a,b\n1,2\n3,4,5,6\n", b"a\n\xff\xfe\n", b'a,b\n"1,2\n'])
def test_the_error_names_a_damaged_table(content: bytes):
    run = Run.open(toy())
    (run.folder / "metrics.csv").write_bytes(content)
    with pytest.raises(ParameterError, match=r"metrics\.csv: cannot be read as a table"):
        run.table("metrics")


def test_a_run_is_done_when_its_result_exists():
    run = Run.open(toy())
    assert run.result is None
    run.finish({"b": 1, "a": [0.1, None, "x"]})
    assert Run.open(toy()).done
    assert run.result == {"a": [0.1, None, "x"], "b": 1}


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"3", b"[1]", b"null", b"\xff", b"[" * 100_000])
def test_half_a_result_means_not_done(content: bytes):
    run = Run.open(toy())
    (run.folder / "result.json").write_bytes(content)
    assert not run.done


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}])
def test_a_result_has_finite_plain_values_only(value):
    run = Run.open(toy())
    with pytest.raises((ValueError, TypeError)):
        run.finish({"accuracy": value})
    assert not run.done
    assert not (run.folder / "result.json").exists()


def test_a_picture_is_written_to_the_figures():
    run = Run.open(toy())
    path = run.write_picture("loss.png", b"picture")
    assert path == run.folder / "figures" / "loss.png" and path.read_bytes() == b"picture"
