"""The files of an export: the content of network.json, and the network built from it and its weights."""

import hashlib
import importlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork
from hdarts.params import validated
from hdarts.space import Genotype

FORMAT = 1  # version of the files
WEIGHTS, NETWORK, ONNX, CARD = "weights.safetensors", "network.json", "network.onnx", "README.md"
Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Description(BaseModel):
    """The content of network.json: how to build the network, and how to prepare an image for it.

    `shape` is (channels, height, width) of the images; `mean` and `std` are those of pixels / 255, one number per
    channel. `parameters` is the digest of the run's parameters (hdarts.params.identity).
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    format: Literal[1]
    run: str
    parameters: str
    genotype: dict[str, Any]
    channels: Count
    layers: Count
    stem: Literal["cifar", "imagenet"] = "cifar"  # earlier exports have none
    classes: list[str]
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)]
    mean: list[Number]
    std: list[Positive]
    weights_sha256: str

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std need one number for each of {self.shape[0]} channels")
        return self

    def network(self, device: str = "cpu") -> EvaluationNetwork:
        """Return the network without its weights, in evaluation mode."""
        cells = Genotype.from_json(json.dumps(self.genotype))
        with torch.device(device):
            network = EvaluationNetwork(
                cells,
                self.channels,
                self.layers,
                len(self.classes),
                auxiliary=False,
                image_channels=self.shape[0],
                stem=self.stem,
            )
        return network.eval()


def require(*modules: str) -> list[Any]:
    """Import modules of the extra `hdarts[export]`; raise `ParameterError` naming what to install."""
    try:
        return [importlib.import_module(name) for name in modules]
    except ModuleNotFoundError as error:
        raise ParameterError(f"{error.name} is not installed; run pip install 'hdarts[export]'") from None


def load(folder: Path) -> tuple[Description, nn.Module]:
    """Return description and trained network of an export; raise `ParameterError` if it is damaged or missing."""
    (safetensors,) = require("safetensors.torch")
    description = read_description(folder)
    try:
        content = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise ParameterError(f"{folder / WEIGHTS}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != description.weights_sha256:
        raise ParameterError(f"{folder / WEIGHTS}: is damaged, or not the file that {NETWORK} describes")
    network = description.network()
    try:
        network.load_state_dict(safetensors.load(content))
    except RuntimeError:
        raise ParameterError(f"{folder / NETWORK}: describes another network than the one in {WEIGHTS}") from None
    return description, network


def read_description(folder: Path) -> Description:
    """Read network.json of an export; raise `ParameterError` if it is damaged or missing."""
    path = folder / NETWORK
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise ParameterError(f"{folder}: is not an exported network: it has no readable {path.name}") from None
    except (ValueError, RecursionError):
        raise ParameterError(f"{path}: is not JSON text") from None
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise ParameterError(f"{path}: format {content.get('format')!r} is not known; this release reads {FORMAT}")
    return validated(Description, content, str(path))
