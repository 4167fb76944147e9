"""The provenance of a run: one entry per start, and the images stay those it began with."""

import json
import shutil

import pytest
from helpers import ROOT
from helpers.images import write_images
from helpers.small_runs import EVALUATION, SEARCH, computed, params

from hdarts.errors import ParameterError
from hdarts.params import ToyBilevelParams
from hdarts.runs.paths import with_defaults
from hdarts.runs.provenance import read_starts
from hdarts.runs.run import Run

OLD = ROOT / "tests" / "fixtures" / "runs-0.1.0" / "tiny" / "search" / "linear-s2-133319f7" / "provenance.json"
KINDS = {
    "search": {**SEARCH, "method": "darts-first"},
    "evaluation": {**EVALUATION, "genotype": str(ROOT / "params" / "genotypes" / "darts-v2.json")},
}


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def run() -> Run:
    return Run.open(with_defaults(ToyBilevelParams, {}))


def test_every_start_is_an_entry_after_the_one_of_an_old_release(run):
    shutil.copy(OLD, run.folder)
    run.write_provenance(seeds=[1])
    run.write_provenance(seeds=[2])
    run.add_provenance(peak_memory_mib=3.0)
    old, one, two = read_starts(run.folder)
    assert old == json.loads(OLD.read_text())
    assert [one["seeds"], two["seeds"]] == [[1], [2]] and run.provenance == two
    assert two["peak_memory_mib"] == 3.0 and "peak_memory_mib" not in one
    assert two["packages"].keys() >= {"hdarts", "torch", "numpy"} and two["written"] and two["machine"]


DAMAGED = ["", "{", "[1]", "null", '{"starts": []}', '{"starts": [1]}', '{"starts": 3}', "[" * 9999]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: content[:20])
def test_a_damaged_list_is_refused_and_left_as_it_is(run, content):
    (path := run.folder / "provenance.json").write_text(content)
    for attempt in (run.write_provenance, run.add_provenance, lambda: run.provenance):
        with pytest.raises(ParameterError, match=r"\.json: cannot be read as the starts of a run; restore it"):
            attempt()
    assert path.read_text() == content


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_whose_images_changed_is_refused_until_they_are_restored(kind, tmp_path):
    for part in ("train", "test"):
        write_images(tmp_path / "images" / part)
    wanted = {**KINDS[kind], "data": str(tmp_path / "images"), "limit": 0, "epochs": 2, "batch_size": 4}
    if kind == "evaluation":
        wanted["test_limit"] = 0
    for row in computed(wanted):  # the generator is closed after an epoch
        assert row["epoch"] == 1
        break
    (start,) = read_starts(folder := Run.open(params(wanted)).folder)
    assert start["kernels"]["compiled"] or start["kernels"]["pytorch"]
    one, other = sorted((tmp_path / "images" / "train" / "ant").iterdir())[:2]
    kept = one.read_bytes()
    shutil.copy(other, one)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        ParameterError, match=f"images changed: SHA-256 {start['data']['digest']} when it began, [0-9a-f]{{64}} now"
    ):
        next(computed(wanted))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    one.write_bytes(kept)
    assert [row["epoch"] for row in computed(wanted)][-1] == 2
    assert len(starts := read_starts(folder)) == 2
    assert starts[0] == start and starts[1]["peak_memory_mib"] > 50


def test_a_run_without_a_checkpoint_may_begin_with_other_images(run):
    run.write_provenance(data={"digest": "a"})
    run.write_provenance(data={"digest": "b"})
    (run.folder / "checkpoint.previous.pt").touch()  # killed between the two files of a save
    with pytest.raises(ParameterError, match="SHA-256 b when it began, a now"):
        run.write_provenance(data={"digest": "a"})
