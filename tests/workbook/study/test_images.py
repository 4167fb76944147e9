"""A study takes a finished run as done only while its images are those that it read."""

import os
import shutil

import pytest
import yaml
from helpers import ROOT
from helpers.command import called
from helpers.images import write_images

import hdarts.data
from hdarts.errors import ParameterError
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.workbook.study import plan_study, record_plan
from hdarts.workbook.study.images import refuse_changed_images


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of a single search, which is done, and its folder of images."""
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(ROOT)
    write_images(tmp_path / "images")
    whole = yaml.safe_load((ROOT / "params" / "studies" / "tiny.yaml").read_text())
    stage = whole["stages"]["search"]
    stage["parameters"] |= {"data": str(tmp_path / "images"), "limit": 0, "batch_size": 4, "epochs": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**whole, "stages": {"search": stage}}))
    plan = plan_study(tmp_path / "study.yaml")
    record_plan(plan)
    (run,) = plan.runs
    list(search(run.params, Run.open(run.params)))  # type: ignore[arg-type]
    return run, tmp_path / "images"


def test_a_finished_run_of_other_images_is_refused_with_both_digests(study, monkeypatch, capsys):
    run, images = study
    digest = Run.open(run.params).provenance["data"]["digest"]
    one, other = sorted((images / "ant").iterdir())[:2]
    shutil.copy(other, one)
    before = {path: path.stat().st_mtime_ns for path in run.folder.parents[1].rglob("*")}
    assert called(monkeypatch, "run", images.parent / "study.yaml") == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith(f"hdarts: run {run.name} is done, but its images changed: SHA-256 {digest} when it began, ")
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.parents[1].rglob("*")}
    shutil.rmtree(images / "ant")
    with pytest.raises(ParameterError, match=r"now; restore them|none \(.*\) now; restore them"):
        refuse_changed_images([run])


def test_images_are_read_only_if_their_files_changed(study, monkeypatch, capsys):
    run, images = study
    load, reads = hdarts.data.load, []
    monkeypatch.setattr(hdarts.data, "load", lambda **origin: reads.append(origin) or load(**origin))
    refuse_changed_images([run, run])
    assert reads == []
    os.utime(images / "bee" / "01.png")  # copied, for instance
    refuse_changed_images([run, run])
    assert len(reads) == 1 and "reads the images to compare them" in capsys.readouterr().out
    images.rename(images.with_name("elsewhere"))
    refuse_changed_images([run])
    assert len(reads) == 1
