"""Classify images with an exported network."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hdarts.data.decode import DamagedImage, decode, fitted
from hdarts.errors import ParameterError, on_one_line
from hdarts.workbook.export.format import Description, load


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image with their softmax confidences, or why it could not be read."""

    image: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""

    def __str__(self) -> str:
        confidences = ", ".join(f"{name} {100 * confidence:.1f} %" for name, confidence in self.classes)
        return on_one_line(self.error or f"{self.image}: {confidences}")


def predict(folder: Path, images: Iterable[Path], top: int = 3, batch_size: int = 64) -> Iterator[Prediction]:
    """Yield the `top` classes of each image, predicted by the network exported to `folder`, in their order.

    Images are converted to the form the network was trained on: cropped to its aspect ratio, resized, grey or colour.
    For one that cannot be read, `error` says why. The network reads `batch_size` images at a time; no more are in
    memory. Raises `ParameterError` for a damaged export.
    """
    for name, value in (("top", top), ("batch_size", batch_size)):
        if value < 1:
            raise ParameterError(f"{name} is {value} and must be at least 1")
    description, network = load(folder)
    names = iter(images)
    batches = iter(lambda: list(islice(names, batch_size)), [])
    return (prediction for batch in batches for prediction in _predict(description, network, batch, top))


@torch.no_grad()
def _predict(description: Description, network: torch.nn.Module, images: list[Path], top: int) -> list[Prediction]:
    inputs, errors = dict[Path, Tensor](), dict[Path, str]()
    for image in images:
        try:
            inputs[image] = preprocess(description, decode(str(image), image))
        except DamagedImage as error:
            errors[image] = str(error)
    best = dict[Path, list[tuple[float, int]]]()
    if inputs:
        confidences = network(torch.stack([*inputs.values()]))[0].double().softmax(1)
        values, labels = confidences.topk(min(top, confidences.shape[1]))
        pairs = zip(values.tolist(), labels.tolist(), strict=True)
        best = {image: list(zip(*pair, strict=True)) for image, pair in zip(inputs, pairs, strict=True)}
    named = {image: tuple((description.classes[i], value) for value, i in some) for image, some in best.items()}
    return [Prediction(image, named.get(image, ()), errors.get(image, "")) for image in images]


def preprocess(description: Description, pixels: np.ndarray) -> Tensor:
    """Return the network's input for pixels `(h, w, 1 or 3)` uint8: `(C, H, W)`, (x / 255 - mean) / std."""
    pixels = fitted(pixels, *description.shape)
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    return (torch.tensor(pixels).permute(2, 0, 1).float() / 255 - mean) / std
