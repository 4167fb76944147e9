"""One image from whatever holds it to pixels, and many of them to one array; nothing damaged passes unnamed."""

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hdarts.params import ParameterError

# Only formats that are pictures and nothing else: no program (PostScript) and no container of other formats.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
MOST_BYTES = 2**27  # of one encoded image
MOST_PIXELS = 2**26  # of one decoded image, 8192 x 8192: below it Pillow itself does not yet warn
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes of 8 bits at most

Item = np.ndarray | bytes | Path | None
"""An image: pixels `(H, W, C)` uint8, an encoded file's bytes, the path of one, or None where one is missing."""


@dataclass(frozen=True)
class Part:
    """Training or test part of a source: the labels are known, images come when `items(rows)` is iterated.

    `items` takes ascending rows and yields `(where, item)`; `where` names the image in messages.
    """

    labels: Tensor
    items: Callable[[Tensor], Iterator[tuple[str, Item]]]


@dataclass(frozen=True)
class Source:
    """A set of images not yet read. `open_test` is the only way to its test part."""

    name: str
    classes: tuple[str, ...]
    train: Part
    open_test: Callable[[], Part]


class Damaged(Exception):
    """An image that cannot be used; the message is a sentence that names it."""


def array_part(pixels: np.ndarray, labels: np.ndarray | Tensor, name: str) -> Part:
    """Return the part that holds `pixels` `(N, H, W, C)` uint8 in memory."""
    return Part(
        torch.as_tensor(labels, dtype=torch.int64),
        lambda rows: ((f"{name}, row {row}", pixels[row]) for row in rows.tolist()),
    )


def read(part: Part, rows: Tensor, *, size: int, skip_damaged: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Return pixels `(n, C, H, W)` uint8 (channels last in memory), labels `(n,)` and what was skipped as sentences.

    All images grey: C = 1; any in colour: C = 3 for all. With `size`, the largest centred square of each is resized to
    `size x size` (area average; enlarging repeats pixels). Raises ParameterError for images of different sizes and,
    without `skip_damaged`, for the first damaged one.
    """
    pixels, first = np.empty((0, 0, 0, 0), np.uint8), ""
    kept: list[int] = []
    damaged: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for row, (where, item) in zip(rows.tolist(), part.items(rows), strict=True):
            try:
                image = decode(where, item)
                image = resize(image, size, size) if size else image
            except Damaged as error:
                if not skip_damaged:
                    raise ParameterError(f"{error} (skip_damaged leaves such images out)") from None
                damaged.append(str(error))
                continue
            if not kept:
                pixels, first = np.empty((len(rows), *image.shape), np.uint8), where
            if image.shape[:2] != pixels.shape[1:3]:
                raise ParameterError(
                    f"images have different sizes: {first} is {_size(pixels[0])}, {where} is {_size(image)}; "
                    "image_size makes them equal"
                )
            if image.shape[-1] > pixels.shape[-1]:
                pixels = np.repeat(pixels, image.shape[-1], axis=-1)  # grey until now
            pixels[len(kept)] = image
            kept.append(row)
    if not kept:
        raise ParameterError(f"no image could be read: {damaged[0] if damaged else 'there is none'}")
    return torch.from_numpy(pixels[: len(kept)]).permute(0, 3, 1, 2), part.labels[kept], damaged


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def decode(where: str, item: Item) -> np.ndarray:
    """Return pixels `(H, W, 1 or 3)` uint8; alpha is dropped and of an animation the first frame taken."""
    if isinstance(item, np.ndarray):
        return item
    encoded = _bytes(where, item)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MOST_PIXELS}")
            if image.mode not in GREY + COLOUR:
                raise ValueError(f"mode {image.mode} is not 8 bits a channel")
            pixels = np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    except Image.UnidentifiedImageError:
        raise Damaged(f"{where}: is not an image of format {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's parsers raise whatever the bytes lead them to
        raise Damaged(f"{where}: cannot be read as an image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _bytes(where: str, item: bytes | Path | None) -> bytes:
    try:
        length = item.stat().st_size if isinstance(item, Path) else len(item or b"")
        if length > MOST_BYTES:
            raise Damaged(f"{where}: {length} bytes are more than {MOST_BYTES}")
        encoded = item.read_bytes() if isinstance(item, Path) else item
    except OSError as error:
        raise Damaged(f"{where}: {error.strerror}") from error
    if not encoded:
        raise Damaged(f"{where}: holds no image, it is empty")
    return encoded


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the largest part `(h, w, C)` around the middle that has the form height x width, resized to it."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    fitted = ImageOps.fit(image, (width, height), method=Image.Resampling.BOX)
    return np.asarray(fitted).reshape(height, width, -1)
