"""Classify images with an exported network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hdarts.data.decode import DamagedImage, decode, resize
from hdarts.errors import ParameterError
from hdarts.workbook.export.format import Description, load


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one image with their softmax confidences, or why it could not be read."""

    image: Path
    classes: tuple[tuple[str, float], ...] = ()
    error: str = ""

    def __str__(self) -> str:
        confidences = ", ".join(f"{name} {100 * confidence:.1f} %" for name, confidence in self.classes)
        return self.error or f"{self.image}: {confidences}"


def predict(folder: Path, images: Sequence[Path], top: int = 3) -> Iterator[Prediction]:
    """Yield the `top` classes of each image, predicted by the network exported to `folder`.

    Images are converted to the form the network was trained on: cropped to its aspect ratio, resized, grey or colour.
    For one that cannot be read, `error` says why. Raises `ParameterError` for a damaged export.
    """
    if top < 1:
        raise ParameterError(f"top is {top} and must be at least 1")
    description, network = load(folder)
    return (_predict(description, network, image, top) for image in images)


@torch.no_grad()
def _predict(description: Description, network: torch.nn.Module, image: Path, top: int) -> Prediction:
    try:
        pixels = decode(str(image), image)
    except DamagedImage as error:
        return Prediction(image, error=str(error))
    confidences = network(preprocess(description, pixels)[None])[0][0].double().softmax(0)
    best = confidences.topk(min(top, len(confidences)))
    named = ((description.classes[i], value) for value, i in zip(*map(Tensor.tolist, best), strict=True))
    return Prediction(image, tuple(named))


def preprocess(description: Description, pixels: np.ndarray) -> Tensor:
    """Return the network's input for pixels `(h, w, 1 or 3)` uint8: `(C, H, W)`, (x / 255 - mean) / std."""
    channels, height, width = description.shape
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    pixels = np.repeat(resize(pixels, height, width), channels // pixels.shape[-1] or 1, axis=-1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    return (torch.tensor(pixels).permute(2, 0, 1).float() / 255 - mean) / std
