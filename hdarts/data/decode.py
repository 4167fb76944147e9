"""Decode images from arrays, bytes and files into one array; damaged ones are refused by name or left out."""

import io
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from hdarts.data.raw import ADVICE, READS_HEIF, Item, RawImages, Shape
from hdarts.errors import ParameterError

# Image formats only: no programs (PostScript), no containers of other formats.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM", "TIFF", "AVIF", "HEIF")
MAX_BYTES = 2**27  # of one encoded image
MAX_PIXELS = 2**26  # of one decoded image, 8192 x 8192; Pillow itself warns above a larger number
GREY, COLOUR = ("1", "L", "LA", "La", "I", "F"), ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
DEEP = ("I", "F")  # Pillow's modes of more than 8 bits start so
BACKGROUND = "white"  # of transparent images
HEADERS = 30  # seconds for reading headers

TURN = Image.Transpose
UPRIGHT = {  # by the orientation in EXIF
    **{2: TURN.FLIP_LEFT_RIGHT, 3: TURN.ROTATE_180, 4: TURN.FLIP_TOP_BOTTOM, 5: TURN.TRANSPOSE},
    **{6: TURN.ROTATE_270, 7: TURN.TRANSVERSE, 8: TURN.ROTATE_90},
}


class DamagedImage(Exception):
    """An image that cannot be used; the message is a sentence that names it."""


@dataclass
class ImageFilter:
    """Check images one by one: equal sizes are required; damaged images are refused, or listed and left out.

    kept: rows of the accepted images; damaged: one sentence each; shape: common height and width, and most channels;
    channels: numbers of images by their channels; noted: numbers of images by what was done to them.
    """

    skip_damaged: bool
    kept: list[int] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    shape: Shape = (0, 0, 0)
    first: str = ""
    channels: Counter[int] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

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
        if shape[2] > self.shape[2]:
            self.shape, self.first = (shape[0], shape[1], shape[2]), name
        self.channels[shape[2]] += 1
        self.kept.append(row)

    def require_images(self) -> None:
        if not self.kept:
            raise ParameterError(f"no image could be read: {self.damaged[0] if self.damaged else 'there is none'}")

    @property
    def notes(self) -> dict[str, int]:
        """Numbers of images by what was done to them, and of the fewer of grey and coloured ones where both occur."""
        fewer = min(self.channels, key=self.channels.__getitem__, default=1)
        mixed = {"grey among coloured" if fewer == 1 else "coloured among grey": self.channels[fewer]}
        return dict(self.noted) | (mixed if len(self.channels) > 1 else {})


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def read(images: RawImages, *, size: int, channels: int, skip_damaged: bool) -> tuple[Tensor, ImageFilter]:
    """Return pixels `(n, C, H, W)` uint8 (channels last in memory), and which rows they are of.

    C is `channels`; with 0, it is 1 where all images are grey, otherwise 3. With `size`, the largest centred square of
    each image is resized to `size x size` (area average; enlarging repeats pixels). Raises ParameterError for images of
    different sizes and, without `skip_damaged`, for the first damaged one.
    """
    pixels, accepted = np.empty((0, 0, 0, 0), np.uint8), ImageFilter(skip_damaged)
    for row, (name, item) in enumerate(images.all()):
        try:
            image = load_pixels(name, item, size, channels, accepted.noted)
        except DamagedImage as error:
            accepted.add(row, name, str(error))
            continue
        accepted.add(row, name, image.shape)
        if len(accepted.kept) == 1:
            pixels = np.empty((len(images.labels), *image.shape), np.uint8)
        if image.shape[-1] > pixels.shape[-1]:
            pixels = np.repeat(pixels, image.shape[-1], axis=-1)  # grey until now
        pixels[len(accepted.kept) - 1] = image
    accepted.require_images()
    return torch.from_numpy(pixels[: len(accepted.kept)]).permute(0, 3, 1, 2), accepted


def read_headers(images: RawImages, *, size: int, channels: int, skip_damaged: bool) -> tuple[int, ImageFilter]:
    """Check images as `read` does, but by their headers only and for at most `HEADERS` seconds; return how many."""
    accepted, end = ImageFilter(skip_damaged), time.monotonic() + HEADERS
    for checked, (name, item) in enumerate(images.all()):
        if time.monotonic() > end:
            return checked, accepted
        try:
            accepted.add(checked, name, _header(name, item, size, channels))
        except DamagedImage as error:
            accepted.add(checked, name, str(error))
    accepted.require_images()
    return len(images.labels), accepted


def load_pixels(name: str, item: Item, size: int, channels: int = 0, noted: Counter[str] | None = None) -> np.ndarray:
    """Return the pixels of an image, resized to `size x size` unless that is 0; raise `DamagedImage`."""
    return fitted(decode(name, item, noted), channels, size, size)


def fitted(pixels: np.ndarray, channels: int, height: int, width: int) -> np.ndarray:
    """Return pixels `(h, w, 1 or 3)` as `(height, width, channels)`; 0 keeps what it is.

    Colours become their luma (ITU-R 601-2); grey is repeated. `resize` says what becomes of other forms.
    """
    if channels == 1 and pixels.shape[2] == 3:
        pixels = np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
    if height and width:
        pixels = resize(pixels, height, width)
    return np.repeat(pixels, channels // pixels.shape[2] or 1, axis=2)


def decode(name: str, item: Item, noted: Counter[str] | None = None) -> np.ndarray:
    """Return pixels `(H, W, 1 or 3)` uint8 of the first frame, upright and without alpha; raise `DamagedImage`.

    Values of more than 8 bits are scaled by the range of the image, to 0 to 255. What is transparent is composited on
    `BACKGROUND`. `noted` counts what was done.
    """
    if isinstance(item, np.ndarray):
        return item
    noted = Counter() if noted is None else noted
    with _opened(name, item) as image:
        noted["of 16 bits per colour, the upper 8 used"] += (
            ";16" in str(getattr(image, "tile", [])[:1]) and image.mode[0] not in DEEP
        )
        image.load()
        pixels = _eight_bits(_upright(image, noted), noted)
        noted["of several frames, the first used"] += _has_frames(image)
    return pixels.reshape(*pixels.shape[:2], -1)


def _header(name: str, item: Item, size: int, channels: int) -> Shape:
    """Return the shape (H, W, C) that `load_pixels` would give, from the header of an image."""
    if isinstance(item, np.ndarray):
        height, width, own = item.shape
        return size or height, size or width, channels or own
    with _opened(name, item) as image:
        width, height = image.size
        has_exif = image.format != "PNG" or "exif" in image.info  # else Pillow would decode it to search on
        if not size and width != height and has_exif and _orientation(image) >= 5:
            width, height = height, width
        return size or height, size or width, channels or (1 if image.mode.startswith(GREY) else 3)


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow can read: AVIF is not in all, HEIF where pillow-heif is installed."""
    Image.init()
    if READS_HEIF:
        import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def _opened(name: str, item: bytes | Path | None) -> Iterator[Image.Image]:
    """Open an image; any error, also of the code that uses it, becomes a `DamagedImage`."""
    with _stream(name, item) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(stream, formats=_formats()) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ValueError(f"{image.width}x{image.height} pixels are more than {MAX_PIXELS}")
                if not (image.mode in COLOUR or image.mode.partition(";")[0] in GREY):
                    raise ValueError(f"mode {image.mode} is neither grey nor a known form of colour")
                yield image
        except Image.UnidentifiedImageError:
            advice = ADVICE.get(Path(name).suffix.lower(), "")
            raise DamagedImage(f"{name}: is not an image of format {', '.join(_formats())}{advice}") from None
        except Exception as error:  # damaged bytes make Pillow's parsers raise anything
            raise DamagedImage(f"{name}: cannot be read as an image: {error}") from error


def _stream(name: str, item: bytes | Path | None) -> BinaryIO:
    try:
        length = item.stat().st_size if isinstance(item, Path) else len(item or b"")
        if length > MAX_BYTES:
            raise DamagedImage(f"{name}: {length} bytes are more than {MAX_BYTES}")
        if not item or not length:
            raise DamagedImage(f"{name}: is empty, it contains no image")
        return item.open("rb") if isinstance(item, Path) else io.BytesIO(item)
    except (OSError, ValueError) as error:
        raise DamagedImage(f"{name}: {getattr(error, 'strerror', None) or error}") from error


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF does not make an image unreadable
        return 1


def _upright(image: Image.Image, noted: Counter[str]) -> Image.Image:
    """Return an image turned as its EXIF says; Pillow itself has turned TIFF."""
    turn = UPRIGHT.get(_orientation(image))
    if turn is None:
        return image
    noted["turned upright by EXIF"] += 1
    return image.transpose(turn)


def _eight_bits(image: Image.Image, noted: Counter[str]) -> np.ndarray:
    if image.mode.startswith(DEEP):
        noted["of more than 8 bits, scaled by the range of each"] += 1
        return scaled(np.asarray(image))
    grey = image.mode in GREY
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:  # type: ignore[operator]
            noted[f"transparent, composited on {BACKGROUND}"] += 1
            image = Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image)
    return np.asarray(image.convert("L" if grey else "RGB"))


def scaled(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Return values from `low` to `high` (of the array, if None) as 0 to 255, rounded; a constant becomes 0."""
    low, high = float(values.min() if low is None else low), float(values.max() if high is None else high)
    if not np.isfinite(values).all():
        raise ValueError("contains values that are not finite")
    return np.rint((values.astype(np.float64) - low) * (255 / (high - low or 1))).clip(0, 255).astype(np.uint8)


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # the first frame was read
        return False


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the largest centred part of an image `(h, w, C)` with the form height x width, resized to it."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    resized = ImageOps.fit(image, (width, height), method=Image.Resampling.BOX)
    return np.asarray(resized).reshape(height, width, -1)
