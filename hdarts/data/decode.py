"""Decode images from arrays, bytes and files into one array; damaged ones are refused by name or left out."""

import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hdarts.errors import ParameterError

# Image formats only: no programs (PostScript), no containers of other formats.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
MAX_BYTES = 2**27  # of one encoded image
MAX_PIXELS = 2**26  # of one decoded image, 8192 x 8192; Pillow itself warns above a larger number
GREY, COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")  # Pillow's modes of 8 bits at most

Item = np.ndarray | bytes | Path | None
"""An image: pixels `(H, W, C)` uint8, the bytes of an encoded file, its path, or None where it is missing."""


@dataclass(frozen=True)
class RawImages:
    """The training or test part of a source: labels, and images that are read while `items(rows)` is iterated.

    `items` takes ascending rows and yields `(name, item)`; `name` identifies the image in messages.
    """

    labels: Tensor
    items: Callable[[Tensor], Iterator[tuple[str, Item]]]

    def subset(self, rows: Tensor) -> "RawImages":
        return RawImages(self.labels[rows], lambda some: self.items(rows[some]))


@dataclass(frozen=True)
class Source:
    """A set of images that are not yet read. Only `open_test` gives its test part."""

    name: str
    classes: tuple[str, ...]
    train: RawImages
    open_test: Callable[[], RawImages]


class DamagedImage(Exception):
    """An image that cannot be used; the message is a sentence that names it."""


def array_images(pixels: np.ndarray, labels: np.ndarray | Tensor, name: str) -> RawImages:
    """Return images in memory, `pixels` `(N, H, W, C)` uint8."""
    return RawImages(
        torch.as_tensor(labels, dtype=torch.int64),
        lambda rows: ((f"{name}, row {row}", pixels[row]) for row in rows.tolist()),
    )


@dataclass
class ImageFilter:
    """Check images one by one: equal sizes are required; damaged images are refused, or listed and left out.

    kept: rows of the accepted images; damaged: one sentence each; shape: common height and width, and most channels.
    """

    skip_damaged: bool
    kept: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    shape: tuple[int, int, int] = (0, 0, 0)
    first: str = ""

    def add(self, row: int, name: str, shape: tuple[int, ...] | str) -> None:
        """Check the next image by its shape (H, W, C), or by the sentence that says how it is damaged."""
        if isinstance(shape, str):
            if not self.skip_damaged:
                raise ParameterError(f"{shape} (skip_damaged leaves such images out)")
            self.damaged.append(shape)
            return
        if not self.kept:
            self.shape, self.first = (shape[0], shape[1], shape[2]), name
        if shape[:2] != self.shape[:2]:
            raise ParameterError(
                f"images have different sizes: {self.first} is {_size(self.shape)}, {name} is {_size(shape)}; "
                "image_size makes them equal"
            )
        self.shape = (*self.shape[:2], max(self.shape[2], shape[2]))
        self.kept.append(row)

    def require_images(self) -> None:
        if not self.kept:
            raise ParameterError(f"no image could be read: {self.damaged[0] if self.damaged else 'there is none'}")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def read(images: RawImages, rows: Tensor, *, size: int, skip_damaged: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Return pixels `(n, C, H, W)` uint8 (channels last in memory), labels `(n,)`, and one sentence per damaged image.

    C is 1 where all images are grey, otherwise 3. With `size`, the largest centred square of each image is resized to
    `size x size` (area average; enlarging repeats pixels). Raises ParameterError for images of different sizes and,
    without `skip_damaged`, for the first damaged one.
    """
    pixels, accepted = np.empty((0, 0, 0, 0), np.uint8), ImageFilter(skip_damaged)
    for row, (name, item) in zip(rows.tolist(), images.items(rows), strict=True):
        try:
            image = load_pixels(name, item, size)
        except DamagedImage as error:
            accepted.add(row, name, str(error))
            continue
        accepted.add(row, name, image.shape)
        if len(accepted.kept) == 1:
            pixels = np.empty((len(rows), *image.shape), np.uint8)
        if image.shape[-1] > pixels.shape[-1]:
            pixels = np.repeat(pixels, image.shape[-1], axis=-1)  # grey until now
        pixels[len(accepted.kept) - 1] = image
    accepted.require_images()
    kept = accepted.kept
    return torch.from_numpy(pixels[: len(kept)]).permute(0, 3, 1, 2), images.labels[kept], accepted.damaged


def load_pixels(name: str, item: Item, size: int) -> np.ndarray:
    """Return pixels `(H, W, 1 or 3)` uint8, resized to `size x size` unless that is 0; raise `DamagedImage`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = decode(name, item)
    return resize(image, size, size) if size else image


def decode(name: str, item: Item) -> np.ndarray:
    """Return pixels `(H, W, 1 or 3)` uint8, without alpha, of the first frame; raise `DamagedImage`."""
    if isinstance(item, np.ndarray):
        return item
    encoded = _bytes(name, item)
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
            if image.mode not in GREY + COLOUR:
                raise ValueError(f"mode {image.mode} is not 8 bits per channel")
            pixels = np.asarray(image.convert("L" if image.mode in GREY else "RGB"))
    except Image.UnidentifiedImageError:
        raise DamagedImage(f"{name}: is not an image of format {', '.join(FORMATS)}") from None
    except Exception as error:  # damaged bytes make Pillow's parsers raise anything
        raise DamagedImage(f"{name}: cannot be read as an image: {error}") from error
    return pixels.reshape(*pixels.shape[:2], -1)


def _bytes(name: str, item: bytes | Path | None) -> bytes:
    try:
        length = item.stat().st_size if isinstance(item, Path) else len(item or b"")
        if length > MAX_BYTES:
            raise DamagedImage(f"{name}: {length} bytes are more than {MAX_BYTES}")
        encoded = item.read_bytes() if isinstance(item, Path) else item
    except OSError as error:
        raise DamagedImage(f"{name}: {error.strerror}") from error
    if not encoded:
        raise DamagedImage(f"{name}: is empty, it contains no image")
    return encoded


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the largest centred part of an image `(h, w, C)` with the form height x width, resized to it."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resized = ImageOps.fit(image, (width, height), method=Image.Resampling.BOX)
    return np.asarray(resized).reshape(height, width, -1)
