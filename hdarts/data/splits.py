"""`load`: any source of images to `Splits`."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hdarts.data.decode import RawImages, Source, read
from hdarts.data.sources import KNOWN, find, locate, signature
from hdarts.data.streaming import CHUNK, StreamedImages, require_files, scan
from hdarts.data.subsets import balanced_subset, stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in memory or in their files, with the statistics that normalise them.

    pixels `(N, C, H, W)` uint8 or `StreamedImages`, labels `(N,)` int64, mean and std `(C,)` float32 of pixels / 255;
    all on one device.
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
        return Images(*(each.to(device) for each in (self.pixels, self.labels, self.mean, self.std)))

    def pixel_batches(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels `(B, H, W, C)` of each batch of rows, on the device of the labels."""
        if isinstance(self.pixels, StreamedImages):
            for pixels in self.pixels.pixel_batches(batches):
                yield pixels.to(self.labels.device, non_blocking=True)
        else:
            for rows in batches:
                yield self.pixels.permute(0, 2, 3, 1).index_select(0, rows)


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a set, all normalised by the statistics of the training part.

    `validation` is None for validation_fraction 0, `test` unless it was requested. `digest` is the SHA-256 of labels
    and pixels of all parts; `skipped` counts the damaged images that were left out; `origin` has the
    arguments of `load`, and as `files` the `sources.signature` of the files that it read.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images | None
    digest: str
    skipped: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)

    def to(self, device: str | torch.device) -> "Splits":
        """Return the same with all parts on a device."""
        validation, test = (part and part.to(device) for part in (self.validation, self.test))
        return replace(self, train=self.train.to(device), validation=validation, test=test)

    def summary(self) -> dict[str, Any]:
        """Return the entry of `provenance.json`: which images were used, and all that an exported network needs."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "name": self.name,
            "digest": self.digest,
            "origin": dict(self.origin),
            **{name: len(part) for name, part in parts.items() if part is not None},
            "damaged_left_out": self.skipped,
            "shape": list(self.train.shape),
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
            "classes": list(self.classes),
        }

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
    """Read a set of images into memory, or only list its files, and split its training part.

    name_or_path: one of `sources.KNOWN`; a Parquet file or folder of them; a folder of images by class.
    folder: where sets are searched for and downloaded to; "" is HDARTS_DATA or `~/.cache/hdarts` (`data_folders`).
    limit, test_limit: size of a fixed class-balanced subset of the training (before the split) or test part; 0: all.
    image_size: side to which the largest centred square of every image is resized; 0: original size.
    validation_fraction, split_seed: fraction of the training part, of each class, that becomes the validation part.
    test: open the test part; otherwise its files and arrays are not touched.
    skip_damaged: leave out files that cannot be read as images, and print how many, instead of refusing them.
    stream, workers: read the images of a folder batch by batch, with so many processes.

    Raises ParameterError for any impossible request, naming the value or the file.
    """
    origin = {name: value for name, value in locals().items() if name != "device"}
    _validate(limit, test_limit, image_size, validation_fraction, device)
    source, path = find(name_or_path, folder, limit, test_limit), locate(name_or_path, folder)
    name = name_or_path if name_or_path in KNOWN else str(path.absolute())  # type: ignore[union-attr]
    origin |= {"name_or_path": name, "files": signature(path)}

    def read_part(images: RawImages, count: int, parameter: str) -> tuple[Any, Tensor, list[str]]:
        rows = _subset(images.labels, count, len(source.classes), f"{parameter} of {source.name}")
        options = {"size": image_size, "skip_damaged": skip_damaged}
        return scan(images, rows, workers=workers, **options) if stream else read(images, rows, **options)

    pixels, labels, damaged = read_part(source.train, limit, "limit")
    rest, chosen = _split(labels, validation_fraction, split_seed)
    sha, sums, train_pixels = hashlib.sha256(), torch.zeros(2, pixels.shape[1], dtype=torch.float64), pixels[rest]
    _read_through(train_pixels, labels[rest], sha, sums)
    mean, std = _moments(sums, len(rest) * pixels.shape[2] * pixels.shape[3])
    train = Images(train_pixels, labels[rest], mean, std)
    validation = tested = None
    if len(chosen):
        validation = Images(pixels[chosen], labels[chosen], mean, std)
        _read_through(validation.pixels, validation.labels, sha)
    if test:
        test_pixels, test_labels, more = read_part(source.open_test(), test_limit, "test_limit")
        tested = Images(_match_channels(test_pixels, pixels), test_labels, mean, std)
        _read_through(tested.pixels, tested.labels, sha)
        damaged += more
    if damaged:
        message = f"{source.name}: left out {len(damaged)} damaged images, the first is {damaged[0]}"
        print(message, file=sys.stderr)
    splits = Splits(source.name, source.classes, train, validation, tested, sha.hexdigest(), len(damaged), origin)
    return splits.to(device)


def split_sizes(
    name_or_path: str, folder: str = "", limit: int = 0, validation_fraction: float = 0.5, stream: bool = False
) -> tuple[int, int]:
    """Return how many training and validation images `load` would give, without decoding any image."""
    _validate(limit, 0, 0, validation_fraction, "cpu")
    source = find(name_or_path, folder, limit, 0)
    if stream:
        require_files(source.train)
    return _split_sizes(source, limit, validation_fraction)


class DatasetInfo(NamedTuple):
    """Numbers of training and validation images, channels, height and width of one, number of classes."""

    train: int
    validation: int
    shape: tuple[int, ...]
    classes: int


def dataset_info(
    name: str, folder: str = "", limit: int = 0, validation_fraction: float = 0.5, size: int = 0
) -> DatasetInfo:
    """Describe what `load` would give, from the labels and the first image; nothing is downloaded."""
    _validate(limit, 0, size, validation_fraction, "cpu")
    source = find(name, folder, limit, 0, download=False)
    first, _, _ = read(source.train, torch.zeros(1, dtype=torch.int64), size=size, skip_damaged=False)
    return DatasetInfo(*_split_sizes(source, limit, validation_fraction), tuple(first.shape[1:]), len(source.classes))


def _split_sizes(source: Source, limit: int, validation_fraction: float) -> tuple[int, int]:
    rows = _subset(source.train.labels, limit, len(source.classes), f"limit of {source.name}")
    rest, chosen = _split(source.train.labels[rows], validation_fraction, 0)
    return len(rest), len(chosen)


def _read_through(pixels: Any, labels: Tensor, sha: Any, sums: Tensor | None = None) -> None:
    """Read a part once: update the digest with its shape, labels and pixels, and `sums` with sums and squares."""
    sha.update(str(tuple(pixels.shape)).encode())
    sha.update(labels.numpy().data)
    if isinstance(pixels, StreamedImages):
        blocks = pixels.pixel_batches(torch.arange(len(pixels)).split(CHUNK))
    else:  # small blocks keep the float64 copy small
        blocks = (block.permute(0, 2, 3, 1) for block in pixels.split(4096))
    for block in blocks:
        sha.update(np.ascontiguousarray(block.numpy()).data)
        if sums is not None:  # integers up to 2^53 add up exactly, in any order
            values = block.double()
            sums += torch.stack([values.sum((0, 1, 2)), values.square().sum((0, 1, 2))])


def _moments(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation of pixels / 255 for each channel, `(C,)` float32.

    A constant channel gets standard deviation 1, so that normalising makes it 0.
    """
    mean, square = sums / count
    variance = square - mean.square()
    std = torch.where(variance > 1e-9 * square, variance, 255.0**2).sqrt()
    return (mean / 255).float(), (std / 255).float()


def _validate(limit: int, test_limit: int, image_size: int, fraction: float, device: str | torch.device) -> None:
    for name, value in (("limit", limit), ("test_limit", test_limit), ("image_size", image_size)):
        if value < 0:
            raise ParameterError(f"{name} is {value} and has to be 0 or more")
    if not 0 <= fraction < 1:
        raise ParameterError(f"validation_fraction is {fraction} and has to be from 0 to below 1")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second where PyTorch is built without CUDA
        raise ParameterError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error


def _subset(labels: Tensor, count: int, classes: int, name: str) -> Tensor:
    if not count:
        return torch.arange(len(labels))
    if not classes <= count <= len(labels):
        raise ParameterError(
            f"{name} is {count} and has to be 0 or from {classes} (one per class) to {len(labels)} (all images)"
        )
    return balanced_subset(labels, count, generator(0, "class-balanced subset"))


def _split(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    rest, chosen = stratified_split(labels, fraction, generator(seed, "validation split"))
    if not len(rest) or (fraction and not len(chosen)):
        part = "validation" if len(rest) else "training"
        raise ParameterError(f"validation_fraction {fraction} of {len(labels)} images leaves no {part} part")
    return rest, chosen


def _match_channels(pixels: Any, train: Any) -> Any:
    """Return test `pixels` with the channels of the training images: grey ones among colour get three."""
    if pixels.shape[1] == 1 and train.shape[1] == 3:
        pixels = pixels.expand(-1, 3, -1, -1)
    if pixels.shape[1:] != train.shape[1:]:
        shapes = ["x".join(str(size) for size in each.shape[1:]) for each in (train, pixels)]
        raise ParameterError(f"training images are {shapes[0]} (channels, height, width) but test images {shapes[1]}")
    return pixels
