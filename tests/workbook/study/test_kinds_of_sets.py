"""Studies on each kind of set that people bring, with real notebooks, to their end: which images each run used."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from helpers import ROOT
from helpers.images import encode, picture, write_images, write_parquet
from helpers.small_runs import environment

from hdarts.runs.provenance import last_images
from hdarts.runs.run import read_result

PARTS = {"train": range(16), "validation": range(50, 58), "test": range(80, 88)}  # the pictures of each part


def folders(folder: Path, *parts: str) -> Path:
    """Write each part as class folders; one without a name is a flat folder of classes."""
    for part in parts:
        for seed in PARTS[part or "train"]:
            file = folder / part.replace("validation", "valid") / ("ant", "bee")[seed % 2] / f"{seed}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(picture(seed)))
    return folder


def shards(folder: Path, *parts: str) -> Path:
    for part in parts:
        file, labels = folder / f"{part}-00000-of-00001.parquet", [seed % 2 for seed in PARTS[part]]
        write_parquet(file, [encode(picture(seed)) for seed in PARTS[part]], labels, ["ant", "bee"])
    return folder


def arrays(folder: Path, *parts: str) -> Path:
    """Write a NumPy file in the layout of MedMNIST."""
    names = {part: part.replace("validation", "val") for part in parts}
    found: dict[str, Any] = {f"{names[part]}_images": np.stack([picture(s) for s in PARTS[part]]) for part in parts}
    found |= {f"{names[part]}_labels": np.array([[seed % 2] for seed in PARTS[part]], np.uint8) for part in parts}
    np.savez(folder / "set.npz", **found)
    return folder / "set.npz"


def listed(folder: Path, *parts: str) -> Path:
    """Write a CSV of file names and labels, in parts if there are several."""
    rows = ["file;label;split"] if len(parts) > 1 else ["file;label"]
    write_images(folder / "images", 0)
    for part in parts:
        for seed in PARTS[part]:
            (folder / "images" / f"{seed}.png").write_bytes(encode(picture(seed)))
            rows.append(";".join([f"images/{seed}.png", ("ant", "bee")[seed % 2], *([part] * (len(parts) > 1))]))
    (folder / "set.csv").write_text("\n".join(rows))
    return folder / "set.csv"


SMALL = {"channels": 2, "layers": 3, "epochs": 1, "batch_size": 4, "threads": 1, "limit": 0}
HELD_OUT = {"test_fraction": 0.25}
OUTER = {"validation_part": "outer"}


def study(file: Path, data: Path, search: dict, evaluate: dict) -> Path:
    """Write a study of a search, its selection, its evaluation and an analysis."""
    common = {**SMALL, "data": str(data), "crop_padding": 1, "cutout": 0}
    stages: dict[str, dict[str, Any]] = {
        "search": {"notebook": "03_search", "parameters": {**common, "method": "darts-first", **search}},
        "select": {"notebook": "05_select", "parameters": {"allow_no_skip": True}},
        "evaluate": {"notebook": "06_evaluate", "parameters": {**common, **evaluate}},
        "analysis": {"notebook": "07_analysis", "after": "everything"},
    }
    stages["select"]["each"] = {"stage": "search", "by": [], "as": "searches"}
    stages["evaluate"]["each"] = {"stage": "select", "as": "genotype"}
    file.write_text(yaml.safe_dump({"study": "mine", "title": "A set", "stages": stages}, sort_keys=False))
    return file


@pytest.mark.soak  # half a minute each or more; tests/data has what each set gives, fast
@pytest.mark.parametrize(
    ("write", "parts", "search", "evaluate", "counts"),
    [
        (folders, ["train", "validation"], OUTER | HELD_OUT, HELD_OUT, [[12, 8], [12, 4]]),
        (folders, ["train", "validation"], {}, {"validation_part": "test"}, [[8, 8], [16, 8]]),
        (folders, [""], {}, {}, [[7, 6], [13, 3]]),
        (listed, ["train"], HELD_OUT, HELD_OUT, [[6, 6], [12, 4]]),
        (listed, ["train", "validation", "test"], OUTER, {}, [[16, 8], [16, 8]]),
        (shards, ["train", "validation"], {}, {"validation_part": "test"}, [[8, 8], [16, 8]]),
        (shards, ["train", "validation", "test"], OUTER, OUTER, [[16, 8], [24, 8]]),
        (arrays, ["train", "validation", "test"], OUTER, OUTER, [[16, 8], [24, 8]]),
    ],
)
def test_a_study_ends_on_every_kind_of_set(
    tmp_path: Path, write: Callable[..., Path], parts: list[str], search: dict, evaluate: dict, counts: list
) -> None:
    (tmp_path / "set").mkdir()
    data = write(tmp_path / "set", *parts)
    file = study(tmp_path / "mine.yaml", data, search, evaluate)
    command = [sys.executable, "-m", "hdarts", "run", str(file), "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path / "runs"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (search_run,), (evaluation,) = ([*(tmp_path / "runs/mine" / stage).iterdir()] for stage in ("search", "evaluate"))
    read = [last_images(run) for run in (search_run, evaluation)]
    assert [[read[0]["train"], read[0]["validation"]], [read[1]["train"], read[1]["test"]]] == counts
    assert all(each["classes"] == (["0", "1"] if write is arrays else ["ant", "bee"]) for each in read)
    assert all(each["shape"] == [3, 6, 6] and each["noted"] == {} for each in read)
    result = read_result(evaluation)
    assert result is not None
    right = result["last_test_accuracy"] / 100 * counts[1][1]
    assert right == pytest.approx(round(right))  # a whole number of images
    assert "4 of 4 runs done" in (tmp_path / "runs" / "mine" / "report.html").read_text()
