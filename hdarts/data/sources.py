"""Find a data set: those known by name, files of images and labels, and folders of images."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hdarts.data.arrays import arrays
from hdarts.data.folders import image_folder, is_image, walk
from hdarts.data.listed import SUFFIXES as LISTS
from hdarts.data.listed import files_of, listed
from hdarts.data.parquet import has_parquet, parquet
from hdarts.data.raw import RawImages, Source, array_images, require_classes
from hdarts.errors import ParameterError
from hdarts.kernels.compiler import user_cache
from hdarts.runs.paths import places
from hdarts.runs.randomness import generator

# Name: class in torchvision.datasets, and the files to put into the data folder where they cannot be downloaded.
DOWNLOADS = {
    "cifar10": ("CIFAR10", "cifar-10-python.tar.gz (or cifar10/train-*.parquet and cifar10/test-*.parquet)"),
    "cifar100": ("CIFAR100", "cifar-100-python.tar.gz (or cifar100/train-*.parquet and cifar100/test-*.parquet)"),
    "fashion_mnist": ("FashionMNIST", "the four *-ubyte.gz files of Fashion-MNIST under FashionMNIST/raw"),
    "svhn": ("SVHN", "train_32x32.mat and test_32x32.mat"),
}
TORCHVISION_ERRORS = (
    OSError,
    RuntimeError,
    ValueError,
    AssertionError,
)  # absent, offline or damaged
GENERATED = ("digits", "generated")  # without files
KNOWN = (*GENERATED, *DOWNLOADS)
READERS: dict[str, Callable[[Path], Source]] = {".parquet": parquet, **dict.fromkeys(LISTS, listed), ".npz": arrays}


class NotDownloaded(ParameterError):
    """A known set that is not on this machine yet."""


def find(name: str, folder: str, limit: int, test_limit: int, download: bool = True) -> Source:
    """Return the source for `name`: a known set, a file of `READERS`, or a folder of Parquet files or images.

    A relative path is searched for in the working folder, the workbook and the `data_folders`. Raises ParameterError,
    also for a set that would have to be downloaded without `download`.
    """
    if name == "digits":
        return digits()
    if name == "generated":
        return generated(limit or 1000, test_limit or 500)
    path = locate(name, folder)
    if path is None:
        return downloaded(name, folder, download)
    read = READERS.get(path.suffix.lower()) if path.is_file() else None
    source = read(path) if read else parquet(path) if has_parquet(path) else image_folder(path)
    require_classes(source)
    return source


def locate(name: str, folder: str) -> Path | None:
    """Return the file or folder of a set; None if it is known by name and not there as Parquet files.

    Raises ParameterError for any other name that is neither.
    """
    inside = [] if name in GENERATED else [place / name for place in data_folders(folder)]
    paths = inside if name in KNOWN else list(dict.fromkeys([*places(name), *inside]))
    for path in paths:
        try:
            if path.is_dir():
                if name not in KNOWN or has_parquet(path):
                    return path
            elif name not in KNOWN and path.is_file() and path.suffix.lower() in READERS:
                return path
        except OSError as error:  # in a folder that is not ours, or too long
            raise ParameterError(f"data set {name!r}: {path} cannot be read: {error.strerror}") from None
    if name in KNOWN:
        return None
    raise ParameterError(
        f"data set {name!r} is unknown: use one of {', '.join(KNOWN)}, a file ({', '.join(READERS)}), or a folder of "
        f"train-*.parquet or of images by class; there is none at {' or '.join(map(str, paths))}"
    )


def signature(path: Path | None) -> str:
    """Return a digest of names, sizes and times of the files of a set, which opens none; "" for None (`locate`)."""
    if path is None:
        return ""
    folder = path.parent if path.is_file() else path
    if path.suffix.lower() in LISTS and path.is_file():
        files = files_of(path)
    elif has_parquet(path):
        files = sorted(folder.glob("*.parquet"))
        files += [folder.joinpath(*names) for names in walk(path) if is_image(names)] if path.is_dir() else []
    elif path.is_file():
        files = [path]
    else:
        files = [folder.joinpath(*names) for names in sorted(walk(folder)) if len(names) > 1 and "." in names[-1]]
    sha = hashlib.sha256()
    for file in filter(Path.is_file, files):
        status = file.stat()
        sha.update(os.fsencode(f"{os.path.relpath(file, folder)} {status.st_size} {status.st_mtime_ns}\n"))
    return sha.hexdigest()


def data_folders(folder: str) -> list[Path]:
    """Return the folders that are searched for data sets; downloads go to the last.

    `folder`, else the environment variable HDARTS_DATA, else `../shared/data` next to a checkout and
    `~/.cache/hdarts`.
    """
    if folder := folder or os.environ.get("HDARTS_DATA", ""):
        return [Path(folder).expanduser()]
    return [Path(__file__).parents[3] / "shared" / "data", user_cache() / "hdarts"]


def digits() -> Source:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 grey, values 0 to 16 scaled to 0 to 255."""
    from sklearn.datasets import load_digits  # takes a second to import

    bunch: Any = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., None]
    whole = array_images(pixels, bunch.target, "digits")
    return Source("digits", tuple("0123456789"), whole, in_parts=False)


def generated(count: int, test_count: int) -> Source:
    """Return 10 classes of 8x8 RGB images: one fixed random pattern per class plus noise of the same variance."""
    patterns = torch.randn(10, 8, 8, 3, generator=generator(0, "generated", "patterns"))

    def images(purpose: str, count: int) -> RawImages:
        labels = torch.arange(count) % 10
        noise = torch.randn(count, 8, 8, 3, generator=generator(0, "generated", purpose))
        pixels = (128 + 40 * (patterns[labels] + noise)).clamp(0, 255).byte()
        return array_images(pixels.numpy(), labels, f"generated {purpose}")

    return Source(
        "generated", tuple("0123456789"), images("train", count), {"test": lambda: images("test", test_count)}
    )


def downloaded(name: str, folder: str, download: bool = True) -> Source:
    """Return a set of torchvision, downloaded once into the data folder with a progress bar.

    torchvision compares its files with known MD5 sums before it opens them; for CIFAR that reads the bytes of the test
    file too, but decodes none.
    """
    train = _fetch(name, True, folder, download)
    classes = tuple(getattr(train, "classes", "0123456789"))
    test = partial(_fetch, name, False, folder, download)
    return Source(name, classes, _images(train, name), {"test": lambda: _images(test(), name)})


def _images(dataset: Any, name: str) -> RawImages:
    pixels = np.asarray(dataset.data)
    if name == "svhn":  # the only one in the layout (N, C, H, W)
        pixels = pixels.transpose(0, 2, 3, 1)
    labels = dataset.labels if name == "svhn" else dataset.targets
    return array_images(pixels if pixels.ndim == 4 else pixels[..., None], labels, name)


def _fetch(name: str, train: bool, folder: str, download: bool) -> Any:
    import torchvision.datasets  # takes a second to import
    from filelock import FileLock

    kind, files = DOWNLOADS[name]
    part = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
    make: Callable[..., Any] = partial(getattr(torchvision.datasets, kind), **part)
    for place in data_folders(folder):
        try:
            return make(root=place)
        except TORCHVISION_ERRORS:
            continue
    root = data_folders(folder)[-1]
    if not download:
        raise NotDownloaded(f"{name} is not in {root} yet; the first run that needs it downloads it")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):  # runs of a study start at the same time
            print(f"{name}: downloading the files that are missing in {root}")
            return make(root=root, download=True)
    except TORCHVISION_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParameterError(
            f"{name} is missing or damaged in {root} and could not be downloaded ({reason}); put {files} there, "
            "or name another folder with the parameter data_folder or the environment variable HDARTS_DATA"
        ) from error
