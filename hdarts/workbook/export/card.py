"""The model card of an export: what the network is, and on what it was and was not trained and tested."""

from pathlib import Path
from typing import Any

from hdarts.network import count_multiply_adds, count_parameters
from hdarts.params import EvaluateParams, read_yaml
from hdarts.runs.paths import runs_folder
from hdarts.runs.provenance import read_starts
from hdarts.runs.run import Run, read_result
from hdarts.workbook.analysis.statistics import summary
from hdarts.workbook.export.format import NETWORK, ONNX, WEIGHTS, Description

CARD = """\
# A network of the cells in {genotype}

An image classifier of {classes} classes, written by `hdarts export`.

| | |
| --- | --- |
| run | `{run}`, parameters {digest}, started {written} |
| data | {data}: {train} training and {test} test images; SHA-256 of labels and pixels {sha} |
| images | {form} (channels, height, width), (pixels / 255 - mean) / std |
| seeds | evaluation {seed}; search {search_seed} |
| network | {layers} cells of space {space}, {channels} channels in the first, stem for {stem} |
| size | {parameters:,} parameters, {multiply_adds:,} multiply-adds per image |
| test accuracy | {accuracy:.2f} % with these weights, after epoch {epochs} |
| over seeds | {spread} |
| classes, confidences | {sure} |
| trained with | hdarts {version}, git {git}, torch {torch}, {device}, precision {precision} |
| ONNX | {onnx} |

The best epoch of this training reached {best:.2f} %. That epoch is chosen on the test images, so do not expect this
accuracy on new ones.

## Files

- `{weights}`, `{network}`: weights, and how to build the network; `hdarts predict FOLDER IMAGES...` reads both.
- `{graph}`: `images` (N, {shape}) float32, normalised as above, to `logits` (N, {classes}); softmax gives confidences.

Classes, in the order of the logits: {named}.

## Not tested

- Other images than the test part of {data}: other cameras, sizes, crops or times, damaged or manipulated ones.
- Images of no class: the network assigns one of its classes to every image.
- Calibration on other images: whether predictions with 90 % confidence are right in 90 of 100 cases.
- Harm: what its errors would cause, and whom they would affect more often.
"""


def model_card(run: Run, description: Description, images: dict[str, Any], difference: float | None) -> str:
    """Return the card as Markdown; `difference` is that of the ONNX graph, None where it was not computed."""
    starts, params, result = read_starts(run.folder), run.params.model_dump(), read_result(run.folder) or {}
    packages = [start.get("packages", {}) for start in starts]
    meta = description.network("meta")
    channels, height, width = description.shape
    agreement = "not checked: onnxruntime was not installed" if difference is None else f"within {difference:.1g}"
    return CARD.format(
        genotype=f"`{params['genotype']}`",
        classes=len(description.classes),
        version=_over_time(packages, "hdarts"),
        run=description.run,
        digest=description.parameters,
        written=starts[0].get("written", "at an unknown time"),
        data=images["name"],
        train=images.get("train"),
        test=images.get("test"),
        sha=images["digest"],
        form=f"{channels}, {height}, {width}",
        seed=params["evaluation_seed"],
        search_seed=_search_seed(params["genotype"]),
        layers=params["layers"],
        stem={"cifar": "CIFAR", "imagenet": "ImageNet"}[params["stem"]],
        space=description.genotype["space"],
        channels=params["channels"],
        parameters=count_parameters(meta),
        multiply_adds=count_multiply_adds(meta, (channels, height, width)),
        accuracy=result["last_test_accuracy"],
        best=result["best_test_accuracy"],
        epochs=params["epochs"],
        spread=_spread(run),
        sure=_sure(result),
        git=_over_time(starts, "git"),
        torch=_over_time(packages, "torch"),
        device=_over_time(starts, "device"),
        precision=params["precision"],
        onnx=f"logits of network and graph on noise: {agreement}",
        weights=WEIGHTS,
        network=NETWORK,
        graph=ONNX,
        shape=f"{channels}, {height}, {width}",
        named=", ".join(f"`{name}`" for name in description.classes),
    )


def _over_time(starts: list[dict[str, Any]], name: str) -> str:
    """Return a value of every start of the run, each change once."""
    return ", then ".join(dict.fromkeys(str(start.get(name, "unknown")) for start in starts))


def _search_seed(genotype: str) -> str:
    """Return the seed of the search behind a cell: `genotype` names the run of the search or of a selection."""
    result = read_result(runs_folder() / genotype) or {}
    result = read_result(runs_folder() / result["chosen"]) or {} if "chosen" in result else result
    return str(result.get("search_seed", "unknown: the cell was given as a file"))


def seed_accuracies(run: Run) -> list[float]:
    """Return the last test accuracies of finished evaluations in this stage that differ only by seed."""

    def setting(folder: Path) -> tuple[Any, Any]:
        values = read_yaml(folder / "params.yaml") if (folder / "params.yaml").is_file() else {}
        cell = (read_result(folder) or {}).get("genotype")
        return EvaluateParams.identifying(values) | {"evaluation_seed": None}, cell

    folders, this = sorted(filter(Path.is_dir, run.folder.parent.iterdir())), setting(run.folder)
    results = [read_result(folder) for folder in folders if setting(folder) == this]
    return [result["last_test_accuracy"] for result in results if result is not None]


def _sure(result: dict[str, Any]) -> str:
    if "calibration_error" not in result:
        return "not counted by the release that trained it"
    mean, error = result["mean_class_accuracy"], result["calibration_error"]
    return f"mean over the classes {mean:.2f} %; expected calibration error {error:.2f} points (15 bins), test images"


def _spread(run: Run) -> str:
    values = seed_accuracies(run)
    if len(values) < 2:
        return "unknown: this is the only evaluation of the cell in its study (n = 1)"
    s = summary(values)
    return f"{s.mean:.2f} % mean, {s.deviation:.2f} standard deviation, n = {s.n} evaluation seeds, last epoch"
