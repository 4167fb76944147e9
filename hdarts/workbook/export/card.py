"""The model card of an export: what the network is, on what it was trained and tested, and on what it was not."""

from pathlib import Path
from typing import Any

from hdarts.network import count_multiply_adds, count_parameters
from hdarts.params import EvaluateParams, read_yaml
from hdarts.runs.paths import runs_folder
from hdarts.runs.run import Run, read_json, read_result
from hdarts.workbook.analysis.statistics import summary
from hdarts.workbook.export.files import NETWORK, ONNX, WEIGHTS, Description

CARD = """\
# A network of the cells in {genotype}

An image classifier of {classes} classes, written by `hdarts export`.

| | |
| --- | --- |
| run | `{run}`, parameters {digest}, begun {written} |
| data | {data}: {train} training and {test} test images; SHA-256 of labels and pixels {sha} |
| images | {form} (channels, height, width), (pixels / 255 - mean) / std |
| seeds | evaluation {seed}; search {search_seed} |
| network | {layers} cells of space {space}, {channels} channels in the first |
| size | {parameters:,} parameters, {multiply_adds:,} multiply-adds an image |
| test accuracy | {accuracy:.2f} % with these weights, those after epoch {epochs} |
| over seeds | {spread} |
| trained with | hdarts {version}, git {git}, torch {torch}, {device}, precision {precision} |
| ONNX | {onnx} |

The best epoch of this training tested at {best:.2f} %. That epoch is picked by the test images, so it is not what to
expect of new ones.

## Files

- `{weights}`, `{network}`: weights, and how to build the network; `hdarts predict FOLDER IMAGES...` reads both.
- `{graph}`: `images` (N, {shape}) float32, normalised as above, to `logits` (N, {classes}); softmax gives confidences.

Classes, in the order of the logits: {named}.

## What it is not tested for

- Other images than the test part of {data}: other cameras, sizes, crops or times, damaged or manipulated ones.
- Images of no class: it names one of its classes for every image.
- Its confidences: whether 90 % are right in 90 of 100 cases was not looked at.
- Harm: nobody has looked at what its mistakes would do, or whom they would meet more often.
"""


def card(run: Run, description: Description, images: dict[str, Any], difference: float | None) -> str:
    """Return the card as Markdown; `difference` is that of the ONNX graph, None where nothing could tell it."""
    told = read_json(run.folder / "provenance.json") or {}
    params, result, packages = run.params.model_dump(), read_result(run.folder) or {}, told.get("packages", {})
    meta = description.network("meta")
    channels, height, width = description.shape
    apart = "not checked: onnxruntime was not installed" if difference is None else f"within {difference:.1g}"
    return CARD.format(
        genotype=f"`{params['genotype']}`",
        classes=len(description.classes),
        version=packages.get("hdarts", "unknown"),
        run=description.run,
        digest=description.parameters,
        written=told.get("written", "at a time not noted"),
        data=images["name"],
        train=images.get("train"),
        test=images.get("test"),
        sha=images["digest"],
        form=f"{channels}, {height}, {width}",
        seed=params["evaluation_seed"],
        search_seed=_search_seed(params["genotype"]),
        layers=params["layers"],
        space=description.genotype["space"],
        channels=params["channels"],
        parameters=count_parameters(meta),
        multiply_adds=count_multiply_adds(meta, (channels, height, width)),
        accuracy=result["last_test_accuracy"],
        best=result["best_test_accuracy"],
        epochs=params["epochs"],
        spread=_spread(run),
        git=told.get("git"),
        torch=packages.get("torch", "unknown"),
        device=told.get("device"),
        precision=params["precision"],
        onnx=f"logits of network and graph on noise: {apart}",
        weights=WEIGHTS,
        network=NETWORK,
        graph=ONNX,
        shape=f"{channels}, {height}, {width}",
        named=", ".join(f"`{name}`" for name in description.classes),
    )


def _search_seed(genotype: str) -> str:
    """Return the seed of the search that found a cell: `genotype` is its run, or the run of a selection."""
    result = read_result(runs_folder() / genotype) or {}
    result = read_result(runs_folder() / result["chosen"]) or {} if "chosen" in result else result
    return str(result.get("search_seed", "unknown: the cell came as a file"))


def evaluations(run: Run) -> list[float]:
    """Return the last epoch's test accuracy of all finished evaluations of this cell that differ by seed only.

    They lie beside this one: same stage of the same study, same parameters, same cell.
    """

    def alike(folder: Path) -> tuple[Any, Any]:
        values = read_yaml(folder / "params.yaml") if (folder / "params.yaml").is_file() else {}
        cell = (read_result(folder) or {}).get("genotype")
        return EvaluateParams.identifying(values) | {"evaluation_seed": None}, cell

    mine = alike(run.folder)
    others = [folder for folder in sorted(run.folder.parent.iterdir()) if folder.is_dir() and alike(folder) == mine]
    return [result["last_test_accuracy"] for folder in others if (result := read_result(folder)) is not None]


def _spread(run: Run) -> str:
    values = evaluations(run)
    if len(values) < 2:
        return "this is the only evaluation of the cell here (n = 1): how much another seed differs was not looked at"
    told = summary(values)
    return f"{told.mean:.2f} % mean, {told.deviation:.2f} standard deviation, n = {told.n} evaluation seeds, last epoch"
