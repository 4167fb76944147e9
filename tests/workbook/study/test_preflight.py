"""Checks before a kernel starts: images exist, batches fit, genotypes can be read."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.images import encode, picture, write_images

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams, check, notebook_defaults
from hdarts.runs.paths import notebooks_folder
from hdarts.space import DARTS, Genotype
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


def test_a_genotype_of_a_custom_space_has_the_cells_that_its_network_needs(tmp_path: Path):
    space = replace(DARTS, name="small", nodes=1, outputs=1)
    edges = [("skip_connect", 0), ("sep_conv_3x3", 1)]
    file = tmp_path / "cell.json"
    file.write_text(Genotype(custom=space, normal=edges, reduce=edges).to_json())
    preflight([planned("evaluate", genotype=str(file), layers=3)])
    with pytest.raises(ParameterError, match="layers = 2: a network needs at least 3 cells"):
        preflight([planned("evaluate", genotype=str(file), layers=2)])


PARTS = {"search": {}, "evaluate": {"genotype": str(CELL)}}


def study_of(folder: Path, **more) -> list[PlannedRun]:
    """Return a search and an evaluation of a folder of images."""
    small = {"data": str(folder), "limit": 0, "batch_size": 4, **more}
    return [planned(stage, **small, **PARTS[stage]) for stage in PARTS]


def without_test(folder: Path) -> str:
    shutil.rmtree(folder / "test")
    return "has no test part"


def without_class(folder: Path) -> str:
    shutil.rmtree(folder / "test" / "bee")
    return "test/bee: contains no image"


def with_colour(folder: Path) -> str:
    (folder / "test" / "bee" / "01.png").write_bytes(encode(picture(1)))
    return "image_channels"


def with_another_size(folder: Path) -> str:
    (folder / "test" / "bee" / "01.png").write_bytes(encode(picture(1, 8, 12, channels=1)))
    return "images have different sizes: .* image_size makes them equal"


def with_text(folder: Path) -> str:
    (folder / "train" / "ant" / "03.png").write_bytes(b"no image")
    return "ant/03.png: is not an image"


@pytest.mark.parametrize("spoil", [without_test, without_class, with_colour, with_another_size, with_text])
def test_what_an_evaluation_will_need_is_checked_before_its_search_starts(tmp_path: Path, spoil, monkeypatch):
    for part in ("train", "test"):
        for file in write_images(tmp_path / part, 10).rglob("*.png"):
            file.write_bytes(encode(picture(int(file.stem), channels=1)))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda image: pytest.fail("an image is decoded"))
    first, *_ = preflight(study_of(tmp_path))
    assert first == f"images of {tmp_path.name}: 10 training, 10 validation images of 2 classes, 6x6, 1 channels"
    with pytest.raises(ParameterError, match=rf"run mine/\w+/one: .*{spoil(tmp_path)}"):
        preflight(study_of(tmp_path))


def test_what_is_used_and_how_many_steps_there_are_is_said_at_the_start(tmp_path: Path):
    write_images(tmp_path, 40)
    (tmp_path / "ant" / "notes.txt").write_text("words")
    more = "16 images are held out for testing (test_fraction); files not used: 1 .txt"
    search, training, steps, epochs = preflight(study_of(tmp_path, batch_size=16, epochs=50))
    assert search.endswith(f": 32 training, 32 validation images of 2 classes, 6x6, 3 channels; {more}")
    few = "2 steps per epoch, 100 in all (fewer than 200 are few); at least "
    assert steps.startswith(f"stage search, {tmp_path}: {few}")
    assert "64 training, 16 test images" in training
    assert epochs.startswith(f"stage evaluate, {tmp_path}: 4 steps per epoch, 200 in all; at least ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutout": 9}, "cutout is 9 and has to be at most 8 for images of 8x8 pixels"),
        ({"crop_padding": 8}, "crop_padding is 8 and has to be at most 7"),
        ({"limit": 5}, "limit of generated is 5 and has to be 0 or from 10"),
        ({"limit": 20_000, "image_size": 4096}, "needs at least .* GiB for its images"),
        ({"channels": 3000, "space": "nasbench201"}, "GiB for its weights, but this machine has"),
    ],
)
def test_what_cannot_mean_anything_or_fit_is_refused_without_trying(changes, message):
    with pytest.raises(ParameterError, match=f"run mine/search/one: .*{message}"):
        preflight([planned("search", **changes)])


@pytest.mark.parametrize(
    ("search", "evaluation"),
    [({"test_fraction": 0.1}, {}), ({"validation_part": "outer"}, {"validation_part": "test"})],
)
def test_no_test_image_may_have_been_read_by_the_search_that_found_the_cell(tmp_path: Path, search, evaluation):
    write_images(tmp_path / "train", 20)
    write_images(tmp_path / "val", 20)
    common = {"data": str(tmp_path), "limit": 0, "batch_size": 4}
    found = planned("search", **common, **search)
    tested = planned("evaluate", (found.name,), genotype=found.name, **common, **evaluation)
    with pytest.raises(ParameterError, match="in the search that finds its cell, which would have read test images"):
        preflight([tested], [found])


def test_files_are_checked_fast(tmp_path: Path):
    blob = encode(picture(1, 8, 8))
    for label in range(10):
        (tmp_path / f"class-{label}").mkdir()
        for number in range(500):
            (tmp_path / f"class-{label}" / f"{number:05}.png").write_bytes(blob)
    began = time.perf_counter()
    preflight([planned("search", data=str(tmp_path), limit=0)])
    assert time.perf_counter() - began < 3  # 5,000 files
