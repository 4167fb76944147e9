"""One image from whatever holds it to pixels, and many of them to one array; nothing damaged passes unnamed."""

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


@dataclass
class Sieve:
    """What is kept of images that come one after the other: refuses damaged ones, or notes them, and other sizes.

    kept: their rows; damaged: sentences; form: height and width of all, and the most channels.
    """

    skip_damaged: bool
    kept: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    form: tuple[int, int, int] = (0, 0, 0)
    first: str = ""

    def keeps(self, row: int, where: str, shape: tuple[int, ...] | str) -> bool:
        """Take the shape (H, W, C) of the next image, or the sentence that says what is wrong with it."""
        if isinstance(shape, str):
            if not self.skip_damaged:
                raise ParameterError(f"{shape} (skip_damaged leaves such images out)")
            self.damaged.append(shape)
            return False
        if not self.kept:
            self.form, self.first = (shape[0], shape[1], shape[2]), where
        if shape[:2] != self.form[:2]:
            raise ParameterError(
                f"images have different sizes: {self.first} is {_size(self.form)}, {where} is {_size(shape)}; "
                "image_size makes them equal"
            )
        self.form = (*self.form[:2], max(self.form[2], shape[2]))
        self.kept.append(row)
        return True

    def refuse_nothing(self) -> None:
        """Raise `ParameterError` where no image was kept."""
        if not self.kept:
            raise ParameterError(f"no image could be read: {self.damaged[0] if self.damaged else 'there is none'}")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def read(part: Part, rows: Tensor, *, size: int, skip_damaged: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Return pixels `(n, C, H, W)` uint8 (channels last in memory), labels `(n,)` and what was skipped as sentences.

    All images grey: C = 1; any in colour: C = 3 for all. With `size`, the largest centred square of each is resized to
    `size x size` (area average; enlarging repeats pixels). Raises ParameterError for images of different sizes and,
    without `skip_damaged`, for the first damaged one.
    """
    pixels, sieve = np.empty((0, 0, 0, 0), np.uint8), Sieve(skip_damaged)
    for row, (where, item) in zip(rows.tolist(), part.items(rows), strict=True):
        try:
            image = fitted(where, item, size)
        except Damaged as error:
            sieve.keeps(row, where, str(error))
            continue
        sieve.keeps(row, where, image.shape)
        if len(sieve.kept) == 1:
            pixels = np.empty((len(rows), *image.shape), np.uint8)
        if image.shape[-1] > pixels.shape[-1]:
            pixels = np.repeat(pixels, image.shape[-1], axis=-1)  # grey until now
        pixels[len(sieve.kept) - 1] = image
    sieve.refuse_nothing()
    count = len(sieve.kept)
    return torch.from_numpy(pixels[:count]).permute(0, 3, 1, 2), part.labels[sieve.kept], sieve.damaged


def fitted(where: str, item: Item, size: int) -> np.ndarray:
    """Return the pixels of an image `(H, W, 1 or 3)` uint8, resized where there is a size; raises `Damaged`."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = decode(where, item)
    return resize(image, size, size) if size else image


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
