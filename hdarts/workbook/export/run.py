"""From a finished evaluation to the files of an export."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, identity, read_yaml, recorded
from hdarts.runs import checkpoint
from hdarts.runs.atomic import write_folder
from hdarts.runs.paths import below_runs
from hdarts.runs.run import Run, read_json, read_result
from hdarts.space import Genotype
from hdarts.train import load_splits
from hdarts.workbook.export.card import card
from hdarts.workbook.export.files import CARD, FORMAT, NETWORK, ONNX, WEIGHTS, Description, needed
from hdarts.workbook.export.onnx import difference, to_onnx


@dataclass(frozen=True)
class Written:
    """Where an export lies, and how far ONNX and network differ (None: onnxruntime is not there to tell)."""

    folder: Path
    difference: float | None


def export(run: str | Path, to: Path | None = None) -> Written:
    """Write the trained network of a finished evaluation as an export, whole or not at all.

    `run` is its name below `runs/`, or its folder; `to` is a folder that does not exist yet, else `export` in that of
    the run. The weights are those after the last epoch, from the kept checkpoint. Raises `ParameterError`.
    """
    (safetensors, *_) = needed("safetensors.torch", "onnx", "onnxscript")
    found = evaluation(run)
    target = to or found.folder / "export"
    if target.exists() and (not target.is_dir() or any(target.iterdir())):  # before the work
        raise ParameterError(f"{target}: is there already; remove it, or name another folder with --to")
    state, images = weights(found), images_of(found)
    content = safetensors.save({name: tensor.contiguous() for name, tensor in state.items()})
    description = described(found, images, content)
    network = description.network()
    fill(network, state, found)
    shape = images["shape"]
    graph = to_onnx(network, shape)
    apart = difference(graph, network, shape)
    text = json.dumps(description.model_dump(), indent=2) + "\n"
    files = {WEIGHTS: content, NETWORK: text, ONNX: graph, CARD: card(found, description, images, apart)}
    write_folder(target, files)
    return Written(target, apart)


def evaluation(run: str | Path) -> Run:
    """Return the finished evaluation of a name below `runs/`, or of a folder."""
    folder = Path(run).resolve() if (Path(run) / "params.yaml").is_file() else below_runs(run)
    if not (folder / "params.yaml").is_file():
        raise ParameterError(f"{run}: no run of that name below {below_runs('x').parent}, and no run folder")
    values = read_yaml(folder / "params.yaml")
    if "evaluation_seed" not in values:
        raise ParameterError(f"{run}: is no evaluation (notebook 06), which alone trains a network for use")
    if read_result(folder) is None:
        raise ParameterError(f"{run}: is not finished; the command that started it goes on")
    return Run(folder, recorded(EvaluateParams, values))


def weights(run: Run) -> dict[str, Tensor]:
    """Return the weights after the last epoch, those of the auxiliary head left out: only training uses it."""
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
        f"{run.folder}: keeps no weights of its last epoch; a training with the parameter keep_checkpoint: true does "
        "(remove this folder to train it again)"
    )


def images_of(run: Run) -> dict[str, Any]:
    """Return what the run's provenance says of its images; where it is older than that, of the images themselves."""
    told = (read_json(run.folder / "provenance.json") or {}).get("data")
    if told is None:
        raise ParameterError(f"{run.folder}: its provenance.json cannot be read")
    if "classes" in told:
        return told
    data = load_splits(run.params)  # type: ignore[arg-type]
    if data.digest != told["digest"]:
        raise ParameterError(f"{run.folder}: the images of {data.name} are not those that it was trained on")
    return data.summary()


def described(run: Run, images: dict[str, Any], content: bytes) -> Description:
    """Return what network.json says of a run."""
    params: Any = run.params
    cell = Genotype.from_json((run.folder / "genotype.json").read_text(encoding="utf-8"))
    return Description(
        format=FORMAT,
        run="/".join(run.folder.parts[-3:]),  # study/stage/name
        parameters=identity(params),
        genotype=json.loads(cell.to_json()),
        channels=params.channels,
        layers=params.layers,
        classes=images["classes"],
        shape=images["shape"],
        mean=images["mean"],
        std=images["std"],
        weights_sha256=hashlib.sha256(content).hexdigest(),
    )


def fill(network: nn.Module, state: dict[str, Tensor], run: Run) -> None:
    """Put the weights into the network; those of another network are refused."""
    try:
        network.load_state_dict(state)
    except RuntimeError:
        raise ParameterError(
            f"{run.folder}: trained a network of one's own, which its parameters do not describe"
        ) from None
