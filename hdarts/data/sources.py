"""The sets known by name, and `find`: from what the user wrote to a source of images."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hdarts.data.decode import Part, Source, array_part
from hdarts.data.files import has_parquet, hold_out, image_folder, parquet
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator

# Name: class in torchvision.datasets, and the files to put into the data folder where they cannot be downloaded.
DOWNLOADS = {
    "cifar10": ("CIFAR10", "cifar-10-python.tar.gz (or cifar10/train-*.parquet and cifar10/test-*.parquet)"),
    "cifar100": ("CIFAR100", "cifar-100-python.tar.gz (or cifar100/train-*.parquet and cifar100/test-*.parquet)"),
    "fashion_mnist": ("FashionMNIST", "the four *-ubyte.gz files of Fashion-MNIST under FashionMNIST/raw"),
    "svhn": ("SVHN", "train_32x32.mat and test_32x32.mat"),
}
FAULTS = (OSError, RuntimeError, ValueError, AssertionError)  # torchvision's words for absent, offline or damaged
KNOWN = ("digits", "generated", *DOWNLOADS)


def find(name: str, folder: str, limit: int, test_limit: int, download: bool = True) -> Source:
    """Return the source that `name` means: a set known by name, else Parquet or a folder of images.

    A relative path is also searched for in `data_folders`. Raises ParameterError, also for a set that would have to be
    downloaded without `download`.
    """
    if name == "digits":
        return digits()
    if name == "generated":
        return generated(limit or 1000, test_limit or 500)
    if name in DOWNLOADS:
        held = [place / name for place in data_folders(folder) if has_parquet(place / name)]
        return parquet(held[0]) if held else downloaded(name, folder, download)
    for path in (Path(name).expanduser(), *(place / name for place in data_folders(folder))):
        if has_parquet(path):
            return parquet(path)
        if path.is_dir():
            return image_folder(path)
    raise ParameterError(
        f"data set {name!r} is unknown: give one of {', '.join(KNOWN)}, a Parquet file, "
        "or a folder of train-*.parquet or of images by class"
    )


def data_folders(folder: str) -> list[Path]:
    """Return where sets are looked for; downloads go to the last.

    `folder` if given, else the environment variable HDARTS_DATA, else `../shared/data` beside a checkout and
    `~/.cache/hdarts`.
    """
    given = folder or os.environ.get("HDARTS_DATA", "")
    if given:
        return [Path(given).expanduser()]
    return [Path(__file__).parents[3] / "shared" / "data", Path.home() / ".cache" / "hdarts"]


def digits() -> Source:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 grey, values 0 to 16 stretched to 0 to 255."""
    from sklearn.datasets import load_digits  # takes a second to import

    bunch: Any = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    return hold_out("digits", tuple("0123456789"), array_part(pixels, bunch.target, "digits"))


def generated(count: int, test_count: int) -> Source:
    """Return 10 classes of 8x8 RGB images: a fixed random pattern each, under noise of the same strength."""
    patterns = torch.randn(10, 8, 8, 3, generator=generator(0, "generated", "patterns"))

    def part(purpose: str, count: int) -> Part:
        labels = torch.arange(count) % 10
        noise = torch.randn(count, 8, 8, 3, generator=generator(0, "generated", purpose))
        pixels = (128 + 40 * (patterns[labels] + noise)).clamp(0, 255).byte()
        return array_part(pixels.numpy(), labels, f"generated {purpose}")

    return Source("generated", tuple("0123456789"), part("train", count), lambda: part("test", test_count))


def downloaded(name: str, folder: str, download: bool = True) -> Source:
    """Return a set of torchvision, downloaded once into the data folder with a progress bar.

    torchvision checks its files against known MD5 sums before it opens them; for CIFAR that reads the bytes of the test
    file too, which is closed again unseen.
    """

    def part(train: bool) -> Part:
        return _as_part(_fetch(name, train, folder, download), name)

    train = _fetch(name, True, folder, download)
    classes = tuple(getattr(train, "classes", "0123456789"))
    return Source(name, classes, _as_part(train, name), lambda: part(False))


def _as_part(dataset: Any, name: str) -> Part:
    pixels = np.asarray(dataset.data)
    if name == "svhn":  # the one that comes as (N, C, H, W)
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = dataset.labels if name == "svhn" else dataset.targets
    return array_part(pixels if pixels.ndim == 4 else pixels[..., None], labels, name)


def _fetch(name: str, train: bool, folder: str, download: bool) -> Any:
    import torchvision.datasets  # takes a second to import
    from filelock import FileLock

    kind, files = DOWNLOADS[name]
    part = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
    make: Callable[..., Any] = functools.partial(getattr(torchvision.datasets, kind), **part)
    for place in data_folders(folder):
        try:
            return make(root=place)
        except FAULTS:
            continue
    root = data_folders(folder)[-1]
    if not download:
        raise ParameterError(f"{name} is not in {root} yet; the first run that needs it looks for it and downloads it")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):  # the runs of a study start together
            print(f"{name}: looking for its files in {root} and downloading what is missing")
            return make(root=root, download=True)
    except FAULTS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParameterError(
            f"{name} is not in {root}, or damaged there, and could not be downloaded ({reason}); put there {files}, "
            "or give another folder by the parameter data_folder or the environment variable HDARTS_DATA"
        ) from error
