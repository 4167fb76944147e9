"""What an exported network says of images from anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hdarts.data.decode import DamagedImage, decode, resize
from hdarts.errors import ParameterError
from hdarts.workbook.export.files import Description, load


@dataclass(frozen=True)
class Prediction:
    """The `top` classes of one image, the likeliest first, with softmax confidences; or why it could not be read."""

    image: Path
    classes: tuple[tuple[str, float], ...] = ()
    fault: str = ""

    def __str__(self) -> str:
        return self.fault or f"{self.image}: " + ", ".join(
            f"{name} {100 * share:.1f} %" for name, share in self.classes
        )


def predict(folder: Path, images: Sequence[Path], top: int = 3) -> Iterator[Prediction]:
    """Yield what the network exported to `folder` says of each image, one after the other.

    An image becomes what the network was trained on: its largest part of that form is resized, grey becomes colour or
    colour grey. An image that cannot be read yields its `fault`. Raises `ParameterError` for a damaged export.
    """
    if top < 1:
        raise ParameterError(f"top is {top} and has to be 1 or more")
    description, network = load(folder)
    return (_one(description, network, image, top) for image in images)


@torch.no_grad()
def _one(description: Description, network: torch.nn.Module, image: Path, top: int) -> Prediction:
    try:
        pixels = decode(str(image), image)
    except DamagedImage as fault:
        return Prediction(image, fault=str(fault))
    shares = network(prepared(description, pixels)[None])[0][0].double().softmax(0)
    best = shares.topk(min(top, len(shares)))
    named = ((description.classes[i], share) for share, i in zip(*map(Tensor.tolist, best), strict=True))
    return Prediction(image, tuple(named))


def prepared(description: Description, pixels: np.ndarray) -> Tensor:
    """Return pixels `(h, w, 1 or 3)` uint8 as the network takes them: `(C, H, W)`, (x / 255 - mean) / std."""
    channels, height, width = description.shape
    if channels == 1 and pixels.shape[-1] == 3:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    pixels = np.repeat(resize(pixels, height, width), channels // pixels.shape[-1] or 1, axis=-1)
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    return (torch.tensor(pixels).permute(2, 0, 1).float() / 255 - mean) / std
