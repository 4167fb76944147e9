"""Write the network of a finished evaluation as an export."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, identity, read_yaml, recorded
from hdarts.runs import checkpoint
from hdarts.runs.atomic import write_folder
from hdarts.runs.paths import below_runs
from hdarts.runs.run import Run, read_result
from hdarts.space import Genotype
from hdarts.train import load_splits
from hdarts.workbook.export.card import model_card
from hdarts.workbook.export.format import CARD, FORMAT, NETWORK, ONNX, WEIGHTS, Description, require
from hdarts.workbook.export.onnx import largest_difference, to_onnx


@dataclass(frozen=True)
class Export:
    """The folder of an export, and the difference between ONNX graph and network (None without onnxruntime)."""

    folder: Path
    difference: float | None


def export(run: str | Path, to: Path | None = None) -> Export:
    """Write the trained network of a finished evaluation as an export, whole or not at all.

    `run` is its name below `runs/`, or its folder; `to` is a new or empty folder, by default `export` in the run's
    folder. The weights are those after the last epoch, from the checkpoint that was kept. Raises `ParameterError`.
    """
    (safetensors, *_) = require("safetensors.torch", "onnx", "onnxscript")
    evaluation = finished_evaluation(run)
    target = to or evaluation.folder / "export"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):  # before any work
        raise ParameterError(f"{target}: exists already; remove it, or name another folder with --to")
    state, images = last_weights(evaluation), image_summary(evaluation)
    weights = safetensors.save({name: tensor.contiguous() for name, tensor in state.items()})
    description = describe(evaluation, images, weights)
    network = description.network()
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise ParameterError(
            f"{evaluation.folder}: trained a user-defined network, which its parameters do not describe"
        ) from None
    graph = to_onnx(network, images["shape"])
    difference = largest_difference(graph, network, images["shape"])
    text = json.dumps(description.model_dump(exclude_defaults=True), indent=2) + "\n"
    card = model_card(evaluation, description, images, difference)
    write_folder(target, {WEIGHTS: weights, NETWORK: text, ONNX: graph, CARD: card})
    return Export(target, difference)


def finished_evaluation(run: str | Path) -> Run:
    """Return the finished evaluation of that name below `runs/`, or in that folder."""
    folder = Path(run).resolve() if (Path(run) / "params.yaml").is_file() else below_runs(run)
    if not (folder / "params.yaml").is_file():
        raise ParameterError(f"{run}: is neither a run below {below_runs('x').parent} nor a run folder")
    values = read_yaml(folder / "params.yaml")
    if "evaluation_seed" not in values:
        raise ParameterError(f"{run}: is not an evaluation (notebook 06); only those train a network for use")
    if read_result(folder) is None:
        raise ParameterError(f"{run}: is not finished; start it again with the same command")
    return Run(folder, recorded(EvaluateParams, values))


def last_weights(run: Run) -> dict[str, Tensor]:
    """Return the weights after the last epoch, without those of the auxiliary head, which only training uses."""
    epochs = getattr(run.params, "epochs", 0)
    for name in (checkpoint.NEWEST, f"checkpoint.epoch-{epochs}.pt"):
        if not (run.folder / name).is_file():
            continue
        try:
            state = checkpoint.read(run.folder / name, identity(run.params))
        except checkpoint.DamagedCheckpoint as damage:
            raise ParameterError(str(damage)) from None
        if (state["epoch"], state["step"]) == (epochs, 0):
            return {key: value for key, value in state["network"].items() if not key.startswith("auxiliary.")}
    raise ParameterError(
        f"{run.folder}: has no weights of its last epoch; set the parameter keep_checkpoint: true to keep them "
        "(remove this folder to train again)"
    )


def image_summary(run: Run) -> dict[str, Any]:
    """Return the summary of the run's images from its provenance or, for older runs, from the images."""
    if not isinstance(saved := run.provenance.get("data"), dict):
        raise ParameterError(f"{run.folder}: its provenance.json does not describe its images")
    if "classes" in saved:
        return saved
    data = load_splits(run.params)  # type: ignore[arg-type]
    if data.digest != saved["digest"]:
        raise ParameterError(f"{run.folder}: the images of {data.name} are not those that it was trained on")
    return data.summary()


def describe(run: Run, images: dict[str, Any], weights: bytes) -> Description:
    """Return the content of network.json for a run."""
    params: Any = run.params
    cell = Genotype.from_json((run.folder / "genotype.json").read_text(encoding="utf-8"))
    return Description(
        format=FORMAT,
        run="/".join(run.folder.parts[-3:]),  # study/stage/name
        parameters=identity(params),
        genotype=json.loads(cell.to_json()),
        channels=params.channels,
        layers=params.layers,
        stem=params.stem,
        classes=images["classes"],
        shape=images["shape"],
        mean=images["mean"],
        std=images["std"],
        weights_sha256=hashlib.sha256(weights).hexdigest(),
    )
