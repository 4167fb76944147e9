"""Arrays of images and labels in a NumPy file: MedMNIST's layout, and `x`, `y`, `x_train`, `y_train`, ..."""

import re
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from hdarts.data.decode import scaled
from hdarts.data.labels import Labelled, Labels, named_labels, source
from hdarts.data.raw import PARTS, Source, array_images, one_name_each
from hdarts.errors import ParameterError

IMAGES, LABELS = ("images", "image", "x", "data"), ("labels", "label", "y", "targets", "target")


def arrays(path: Path) -> Source:
    """Return the source of a `.npz` file: arrays of images `(N, H, W)` or `(N, H, W, 1 or 3)` and of labels.

    Their names: `train_images` and `train_labels`, `x_train` and `y_train`, and so on for validation and test, or `x`
    and `y` for the whole set. Channels may come first. uint8 is used as it is; other numbers are scaled by the range of
    the training images. Labels `(N,)` or `(N, 1)` are numbers or names, `(N, K)` are one-hot. Nothing is unpickled.
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = [name.removesuffix(".npy") for name in file.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ParameterError(f"{path}: cannot be read as a NumPy file: {error}") from error
    roles = {name: role for name in names if (role := _role(name))}
    one_name_each(path, ((" ".join(role).strip(), name) for name, role in roles.items()))
    found = {role: name for name, role in roles.items()}
    whole = ("train", "images") not in found and ("", "images") in found
    parts = {part or "train": part for part, what in found if what == "images" and bool(part) != whole}
    lacking = [found[part, "images"] for part in parts.values() if (part, "labels") not in found]
    if lacking or "train" not in parts:
        raise ParameterError(
            f"{path}: has no labels for {lacking[0]}" if lacking else f"{path}: has no arrays train_images and "
            f"train_labels, x_train and y_train, or x and y, only {', '.join(names)}"
        )  # fmt: skip

    @cache
    def limits() -> tuple[float, float]:
        values = _array(path, found[parts["train"], "images"])
        return float(values.min()), float(values.max())

    opens = {
        name: partial(_part, path, found[part, "images"], found[part, "labels"], limits) for name, part in parts.items()
    }
    others = len(names) - 2 * len(parts)
    return source(path.stem, opens, not whole, {"other arrays": others} if others else {})


def _role(name: str) -> tuple[str, str] | None:
    """Return part ("" for the whole set) and kind of an array: `train_images` is (train, images)."""
    words = re.split(r"[_\-. ]+", name.lower())
    part = [PARTS[word] for word in words if word in PARTS]
    kinds = ["images" if word in IMAGES else "labels" for word in words if word in (*IMAGES, *LABELS)]
    return ("".join(part), kinds[0]) if len(kinds) == 1 and len(part) + 1 == len(words) else None


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        raise ParameterError(f"{path}: array {name} cannot be read: {' '.join(str(error).split())}") from error


def _part(path: Path, images: str, labels: str, limits: Callable[[], tuple[float, float]]) -> Labelled:
    pixels, values = _array(path, images), _labels(path, labels)
    if pixels.dtype.kind not in "buif" or 0 in pixels.shape:
        raise ParameterError(f"{path}: array {images} has type {pixels.dtype} and shape {pixels.shape}, not images")
    match pixels.shape:
        case (_, _, _):
            pixels = pixels[..., None]
        case (_, _, _, 1 | 3):
            pass
        case (_, 1 | 3, _, _):
            pixels = pixels.transpose(0, 2, 3, 1)
        case shape:
            forms = "(N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W)"
            raise ParameterError(f"{path}: array {images} has shape {shape}; images have shape {forms}")
    if len(values.codes) != len(pixels):
        raise ParameterError(f"{path}: {images} has {len(pixels)} images, but {labels} {len(values.codes)} labels")
    notes = list[str]()
    if pixels.dtype != np.uint8:
        try:
            low, high = limits()
            beyond = int(((pixels < low) | (pixels > high)).any((1, 2, 3)).sum())
            clipped = f"; {beyond} of its images have others, which are clipped" if beyond else ""
            scale = f"scaled by the range of the training images, {low:g} to {high:g}{clipped}"
            notes.append(f"{pixels.dtype} values of {images} are {scale}")
            pixels = scaled(pixels, low, high)
        except ValueError as error:
            raise ParameterError(f"{path}: array {images} {error}") from None
    raw = array_images(pixels, values.codes, f"{path}, {images}")
    return Labelled([values], raw.items, tuple(notes))


def _labels(path: Path, name: str) -> Labels:
    values = _array(path, name)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "buif" and (np.sort(values, 1) == np.eye(values.shape[1])[-1]).all():
        values = values.argmax(1)  # one-hot
    if values.dtype.kind == "f" and (values == np.rint(values)).all():
        values = values.astype(np.int64)
    if values.ndim != 1 or values.dtype.kind not in "buiUS":
        shape = f"has shape {values.shape} and type {values.dtype}"
        raise ParameterError(f"{path}: array {name} {shape}; each image needs one label")
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in values.tolist()]
    return named_labels(f"{path}: array {name}", names)
