"""`load`: any source of images to one result, `Splits`."""

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hdarts.data.decode import Part, Source, read
from hdarts.data.sources import find
from hdarts.data.streaming import TOGETHER, Streamed, refuse_unless_files, streamed
from hdarts.data.subsets import balanced_subset, stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in memory, or in their files, with the statistics that normalise them.

    pixels `(N, C, H, W)` uint8 or `Streamed`, labels `(N,)` int64, mean and std `(C,)` float32 of pixels / 255; all on
    one device.
    """

    pixels: Any
    labels: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def to(self, device: str | torch.device) -> "Images":
        """Return the same images on `device`."""
        return Images(*(each.to(device) for each in (self.pixels, self.labels, self.mean, self.std)))

    def taken(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels `(B, H, W, C)` of each of the batches of rows, on the device of the labels."""
        if isinstance(self.pixels, Streamed):
            for pixels in self.pixels.batches(batches):
                yield pixels.to(self.labels.device, non_blocking=True)
        else:
            for rows in batches:
                yield self.pixels.permute(0, 2, 3, 1).index_select(0, rows)


@dataclass(frozen=True, eq=False)
class Splits:
    """What `load` returns: parts of one set, all normalised by the statistics of its training part.

    `validation` is None for validation_fraction 0, `test` unless it was asked for. `digest` is the SHA-256 of labels
    and pixels of all parts; `skipped` counts the damaged images that were left out.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images | None
    digest: str
    skipped: int = 0

    def summary(self) -> dict[str, Any]:
        """Return what `provenance.json` says of the images that were used: all that their use later on needs."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        counts = {name: len(part) for name, part in parts.items() if part is not None}
        form = {"shape": list(self.train.shape), "mean": self.mean.tolist(), "std": self.std.tolist()}
        plain = {"name": self.name, "digest": self.digest, **counts, "damaged_left_out": self.skipped}
        return {**plain, **form, "classes": list(self.classes)}

    @property
    def mean(self) -> Tensor:
        """Mean of the training part's pixels / 255, `(C,)`."""
        return self.train.mean

    @property
    def std(self) -> Tensor:
        """Population standard deviation of the training part's pixels / 255, `(C,)`."""
        return self.train.std


def load(
    name_or_path: str,
    *,
    folder: str = "",
    limit: int = 0,
    test_limit: int = 0,
    image_size: int = 0,
    validation_fraction: float = 0.5,
    split_seed: int = 0,
    test: bool = False,
    device: str | torch.device = "cpu",
    skip_damaged: bool = False,
    stream: bool = False,
    workers: int = 0,
) -> Splits:
    """Read a set of images into memory, or look at its files, and split its training part.

    name_or_path: digits, generated, cifar10, cifar100, fashion_mnist, svhn; a Parquet file or folder of them; a folder
        of images by class.
    folder: where sets are kept and downloaded to; "" is the environment variable HDARTS_DATA or `~/.cache/hdarts`.
    limit, test_limit: size of a fixed class-balanced subset of the training (before the split) or test part; 0: all.
    image_size: side to which the largest centred square of every image is resized; 0: as they are.
    validation_fraction, split_seed: share of the training part, class by class, that becomes the validation part.
    test: open the test part; its files and arrays are not touched otherwise.
    skip_damaged: leave out what cannot be read as an image, and print how many, instead of refusing it.
    stream, workers: leave the images of a folder in its files, to be read batch by batch by so many processes.

    Raises ParameterError for anything that cannot be done, naming the value or the file.
    """
    _check(limit, test_limit, image_size, validation_fraction, device)
    source = find(name_or_path, folder, limit, test_limit)

    def read_part(part: Part, count: int, which: str) -> tuple[Any, Tensor, list[str]]:
        rows = _subset(part.labels, count, len(source.classes), f"{which} of {source.name}")
        how = {"size": image_size, "skip_damaged": skip_damaged}
        return streamed(part, rows, workers=workers, **how) if stream else read(part, rows, **how)

    pixels, labels, damaged = read_part(source.train, limit, "limit")
    rest, chosen = _split(labels, validation_fraction, split_seed)
    sha, totals, learned = hashlib.sha256(), torch.zeros(2, pixels.shape[1], dtype=torch.float64), pixels[rest]
    _through(learned, labels[rest], sha, totals)
    mean, std = _moments(totals, learned.shape)
    train = Images(learned, labels[rest], mean, std)
    validation = tested = None
    if len(chosen):
        validation = Images(pixels[chosen], labels[chosen], mean, std)
        _through(validation.pixels, validation.labels, sha)
    if test:
        test_pixels, test_labels, more = read_part(source.open_test(), test_limit, "test_limit")
        tested = Images(_like(test_pixels, pixels), test_labels, mean, std)
        _through(tested.pixels, tested.labels, sha)
        damaged += more
    if damaged:
        told = f"{source.name}: left out {len(damaged)} damaged images, the first is {damaged[0]}"
        print(told, file=sys.stderr)
    parts = [part and part.to(device) for part in (train, validation, tested)]
    return Splits(source.name, source.classes, *parts, sha.hexdigest(), len(damaged))  # type: ignore[arg-type]


def split_sizes(
    name_or_path: str, folder: str = "", limit: int = 0, validation_fraction: float = 0.5, stream: bool = False
) -> tuple[int, int]:
    """Return how many training and validation images `load` would give; no image is decoded, no test part opened."""
    _check(limit, 0, 0, validation_fraction, "cpu")
    source = find(name_or_path, folder, limit, 0)
    if stream:
        refuse_unless_files(source.train)
    return _sizes(source, limit, validation_fraction)


def _sizes(source: Source, limit: int, validation_fraction: float) -> tuple[int, int]:
    rows = _subset(source.train.labels, limit, len(source.classes), f"limit of {source.name}")
    rest, chosen = _split(source.train.labels[rows], validation_fraction, 0)
    return len(rest), len(chosen)


class DatasetInfo(NamedTuple):
    """What `load` would give: numbers of images, channels, height and width of one, number of classes."""

    train: int
    validation: int
    shape: tuple[int, ...]
    classes: int


def dataset_info(
    name: str, folder: str = "", limit: int = 0, validation_fraction: float = 0.5, size: int = 0
) -> DatasetInfo:
    """Return the outline of a set, as `split_sizes` does and from its first image; nothing is downloaded."""
    _check(limit, 0, size, validation_fraction, "cpu")
    source = find(name, folder, limit, 0, download=False)
    first, _, _ = read(source.train, torch.zeros(1, dtype=torch.int64), size=size, skip_damaged=False)
    return DatasetInfo(*_sizes(source, limit, validation_fraction), tuple(first.shape[1:]), len(source.classes))


def _through(pixels: Any, labels: Tensor, sha: Any, totals: Tensor | None = None) -> None:
    """Go through a part once: into the digest go its shape, labels and pixels, into the totals sums and squares."""
    sha.update(str(tuple(pixels.shape)).encode())
    sha.update(labels.numpy().data)
    if isinstance(pixels, Streamed):
        blocks = pixels.batches(torch.arange(len(pixels)).split(TOGETHER))
    else:  # small blocks keep the float64 copy small
        blocks = (block.permute(0, 2, 3, 1) for block in pixels.split(4096))
    for block in blocks:
        sha.update(np.ascontiguousarray(block.numpy()).data)
        if totals is not None:  # integers up to 2^53 add up exactly, in any order
            values = block.double()
            totals += torch.stack([values.sum((0, 1, 2)), values.square().sum((0, 1, 2))])


def _moments(totals: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation of pixels / 255 of each channel, `(C,)` float32.

    A channel that never varies gets standard deviation 1, so that normalising makes it 0.
    """
    mean, square = totals / (shape[0] * shape[2] * shape[3])
    variance = square - mean.square()
    std = torch.where(variance > 1e-9 * square, variance, 255.0**2).sqrt()
    return (mean / 255).float(), (std / 255).float()


def _check(limit: int, test_limit: int, image_size: int, fraction: float, device: str | torch.device) -> None:
    for name, value in (("limit", limit), ("test_limit", test_limit), ("image_size", image_size)):
        if value < 0:
            raise ParameterError(f"{name} is {value} and has to be 0 or more")
    if not 0 <= fraction < 1:
        raise ParameterError(f"validation_fraction is {fraction} and has to be from 0 to below 1")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second where PyTorch is built without CUDA
        raise ParameterError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error


def _subset(labels: Tensor, count: int, classes: int, what: str) -> Tensor:
    if not count:
        return torch.arange(len(labels))
    if not classes <= count <= len(labels):
        raise ParameterError(
            f"{what} is {count} and has to be 0 or from {classes} (one a class) to {len(labels)} (all images)"
        )
    return balanced_subset(labels, count, generator(0, "class-balanced subset"))


def _split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    rest, chosen = stratified_split(labels, fraction, generator(seed, "validation split"))
    if not len(rest) or (fraction and not len(chosen)):
        part = "validation" if len(rest) else "training"
        raise ParameterError(f"validation_fraction {fraction} of {len(labels)} images leaves no {part} part")
    return rest, chosen


def _like(pixels: Any, train: Any) -> Any:
    """Return test `pixels` as the training images are: grey ones get three channels where those have colour."""
    if pixels.shape[1] == 1 and train.shape[1] == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    if pixels.shape[1:] != train.shape[1:]:
        shapes = ["x".join(str(size) for size in each.shape[1:]) for each in (train, pixels)]
        raise ParameterError(f"training images are {shapes[0]} (channels, height, width) but test images {shapes[1]}")
    return pixels
