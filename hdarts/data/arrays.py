"""Arrays of images and labels in a NumPy file: MedMNIST's layout, and `x`, `y`, `x_train`, `y_train`, ..."""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import IO

import numpy as np
from torch import Tensor

from hdarts.data.decode import scaled
from hdarts.data.labels import Labelled, Labels, named_labels, source
from hdarts.data.raw import PARTS, Item, Shape, Source
from hdarts.errors import ParameterError

IMAGES, LABELS = ("images", "image", "x", "data"), ("labels", "label", "y", "targets", "target")


def arrays(path: Path) -> Source:
    """Return the source of a `.npz` file: arrays of images `(N, H, W)` or `(N, H, W, 1 or 3)` and of labels.

    Their names: `train_images` and `train_labels`, `x_train` and `y_train`, and so on for validation and test, or `x`
    and `y` for the whole set. Channels may come first. uint8 is used as it is; other numbers are scaled by the range of
    the training images. Labels `(N,)` or `(N, 1)` are numbers or names, `(N, K)` are one-hot. Nothing is unpickled.
    """
    names = _names(path)
    found = {role: name for name in reversed(names) if (role := _role(name))}
    whole = ("", "images") in found and ("train", "images") not in found
    parts = {("train" if whole else part): part for part, what in found if what == "images" and bool(part) != whole}
    for part in parts.values():
        if (part, "labels") not in found:
            raise ParameterError(f"{path}: has the array {found[part, 'images']} but no labels for it")
    if "train" not in parts:
        raise ParameterError(
            f"{path}: has no arrays train_images and train_labels, x_train and y_train, or x and y, only "
            f"{', '.join(names)}"
        )
    first = found[parts["train"], "images"]

    @cache
    def limits() -> tuple[float, float]:
        values = _array(path, first)
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ParameterError(f"{path}: array {first} contains values that are not finite")
        return low, high

    dtype = _header(path, first)[1]
    opens = {
        part: partial(_part, path, found[own, "images"], found[own, "labels"], limits) for part, own in parts.items()
    }
    used = sum(what in ("images", "labels") and part in parts.values() for part, what in found)
    unused = {"other arrays": len(names) - used} if len(names) > used else {}
    note = [] if dtype == np.uint8 else ["{} values are scaled by their range, {:g} to {:g}".format(dtype, *limits())]
    return source(path.stem, opens, not whole, unused, note)


def _role(name: str) -> tuple[str, str] | None:
    """Return part ("" for the whole set) and kind of an array: `train_images` is (train, images)."""
    words = re.split(r"[_\-. ]+", name.lower())
    part = [PARTS[word] for word in words if word in PARTS]
    kinds = ["images" if word in IMAGES else "labels" for word in words if word in (*IMAGES, *LABELS)]
    if len(kinds) != 1 or len(part) + 1 != len(words):
        return None
    return "".join(part), kinds[0]


@contextmanager
def _reading(path: Path, name: str = "") -> Iterator[None]:
    """Turn any error over a damaged file into a `ParameterError` that names file and array."""
    try:
        yield
    except ParameterError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        where = f"{path}: array {name}" if name else str(path)
        raise ParameterError(f"{where}: cannot be read as a NumPy file: {' '.join(str(error).split())}") from error


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    with _reading(path, name), zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as stream:
        yield stream


def _names(path: Path) -> list[str]:
    with _reading(path), zipfile.ZipFile(path) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]


def _header(path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    with _opened(path, name) as stream:
        old = np.lib.format.read_magic(stream) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    return shape, dtype


def _array(path: Path, name: str) -> np.ndarray:
    with _opened(path, name) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _part(path: Path, images: str, labels: str, limits: Callable[[], tuple[float, float]]) -> Labelled:
    (count, *_), _ = shape, dtype = _header(path, images)
    form = _form(path, images, shape, dtype)
    values = _labels(path, labels)
    if len(values.codes) != count:
        raise ParameterError(f"{path}: {images} has {count} images, but {labels} {len(values.codes)} labels")
    last = shape[-len(form) :] == form or len(shape) == 3

    def items(rows: Tensor) -> Iterator[tuple[str, Item]]:
        every = _array(path, images)
        for row in rows.tolist():
            pixels = every[row] if every.dtype == np.uint8 else scaled(every[row], *limits())
            pixels = pixels if last else pixels.transpose(1, 2, 0)
            yield f"{path}, {images}[{row}]", np.ascontiguousarray(pixels).reshape(form)

    return Labelled([values], items, form)


def _form(path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Shape:
    """Return height, width and channels of images in an array of a shape; channels come last or first."""
    if dtype.kind in "buif" and 0 not in shape:
        match shape:
            case (_, height, width) | (_, height, width, 1):
                return height, width, 1
            case (_, height, width, 3):
                return height, width, 3
            case (_, (1 | 3) as channels, height, width):
                return height, width, channels
    raise ParameterError(
        f"{path}: array {name} has shape {shape} and type {dtype}; images are numbers of shape (N, H, W), "
        "(N, H, W, 1 or 3) or (N, 1 or 3, H, W)"
    )


def _labels(path: Path, name: str) -> Labels:
    values = _array(path, name)
    place = f"{path}: array {name}"
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "buif" and (np.sort(values, 1) == np.eye(values.shape[1])[-1]).all():
        values = values.argmax(1)  # one-hot
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "buiUS":
        raise ParameterError(f"{place} has shape {values.shape} and type {values.dtype}; each image needs one label")
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in values.tolist()]
    return named_labels(place, names)
