"""Checks before a kernel starts: images exist, batches fit, genotypes can be read."""

from pathlib import Path

import pytest

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams, check, notebook_defaults
from hdarts.runs.paths import notebooks_folder
from hdarts.workbook.study import PlannedRun
from hdarts.workbook.study.preflight import preflight

CELL = notebooks_folder().parent / "params" / "genotypes" / "darts-v1.json"


def planned(stage: str, needs: tuple[str, ...] = (), **changes) -> PlannedRun:
    notebook, model = {"search": ("03_search", SearchParams), "evaluate": ("06_evaluate", EvaluateParams)}[stage]
    path = notebooks_folder() / f"{notebook}.ipynb"
    values = {**notebook_defaults(path), "data": "generated", "limit": 40, "batch_size": 20, **changes}
    return PlannedRun(f"mine/{stage}/one", stage, path, check(model, values), {}, needs)


def test_runs_that_can_start_pass():
    preflight([planned("search"), planned("evaluate", genotype=str(CELL))])


def test_a_batch_must_fit_into_the_smaller_part_of_a_split():
    with pytest.raises(ParameterError, match=r"run mine/search/one: parameter `batch_size` = 21: larger than the 20"):
        preflight([planned("search", batch_size=21)])
    preflight([planned("evaluate", genotype=str(CELL), batch_size=21)])


def test_an_evaluation_has_the_cells_that_a_network_of_its_space_needs():
    few = "run mine/evaluate/one: layers = 2: a network needs at least 3 cells"
    with pytest.raises(ParameterError, match=few):
        preflight([planned("evaluate", genotype=str(CELL), layers=2)])
    waiting = planned("evaluate", needs=("mine/search/one",), genotype="mine/search/one", layers=2)
    with pytest.raises(ParameterError, match=few):
        preflight([planned("search"), waiting])
    preflight([planned("search", space="nasbench201"), waiting])


def test_a_random_cell_needs_no_images():
    preflight([planned("search", method="random", data="no such folder")])


@pytest.mark.parametrize(("stage", "more"), [("search", {}), ("evaluate", {"genotype": str(CELL)})])
def test_missing_images_are_named(stage: str, more: dict):
    with pytest.raises(ParameterError, match=rf"run mine/{stage}/one: .*no such folder"):
        preflight([planned(stage, (), data="no such folder", **more)])


def test_a_genotype_is_read_unless_a_run_will_make_it(tmp_path: Path):
    with pytest.raises(ParameterError, match=r"run mine/evaluate/one: .*mine/select/hyper"):
        preflight([planned("evaluate", genotype="mine/select/hyper")])
    preflight([planned("evaluate", needs=("mine/select/hyper",), genotype="mine/select/hyper")])
    broken = tmp_path / "cell.json"
    broken.write_text("{")
    with pytest.raises(ParameterError, match=r"cell\.json"):
        preflight([planned("evaluate", genotype=str(broken))])
