"""`hdarts batch-size` proposes a batch size from the memory of a step, and sets nothing."""

import pytest
import yaml

from hdarts.errors import ParameterError
from hdarts.params import SearchParams, check, notebook_defaults
from hdarts.runs.paths import notebooks_folder
from hdarts.workbook.study.batch_size import StepMemory, propose_batch_size


def write(tmp_path, **changes):
    small = {"data": "digits", "channels": 2, "layers": 3, "device": "cpu", "threads": 1, "method": "darts-first"}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**small, **changes}))
    return path


def test_the_largest_multiple_of_sixteen_within_the_margin_is_proposed():
    found = StepMemory(fixed=1.0, per_image=0.01, free=2.0, most=1000)
    assert found.batch_size == 48  # (0.8 * 2 - 1) / 0.01 = 60
    assert "batch_size 48 fits" in str(found) and "set it in the parameters yourself" in str(found)
    assert StepMemory(1.0, 0.01, 200.0, most=100).batch_size == 96
    assert "not even 16 images fit" in str(StepMemory(3.0, 0.01, 2.0, 1000))


def test_a_step_is_measured(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    found = propose_batch_size(write(tmp_path))
    assert found.free > 0 and found.per_image >= 0 and found.most == 719
    assert not (tmp_path / "runs").exists()


def test_random_cells_and_too_few_images_are_refused(tmp_path):
    with pytest.raises(ParameterError, match="random takes no steps"):
        propose_batch_size(write(tmp_path, method="random"))
    with pytest.raises(ParameterError, match="fewer than the 48"):
        propose_batch_size(write(tmp_path, limit=60))


def test_auto_is_refused_with_the_command_that_proposes_a_size(tmp_path):
    values = notebook_defaults(notebooks_folder() / "03_search.ipynb") | {"batch_size": "auto"}
    with pytest.raises(ParameterError, match=r"`batch_size` = 'auto': .*`hdarts batch-size` proposes one"):
        check(SearchParams, values)
