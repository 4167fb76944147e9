"""`load`: any source of images to `Splits`."""

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hdarts.data.decode import ImageFilter, read
from hdarts.data.raw import RawImages
from hdarts.data.request import Request, noted_in, open_set, require_match, split, summary
from hdarts.data.sources import KNOWN, locate, signature
from hdarts.data.streaming import CHUNK, StreamedImages, scan
from hdarts.errors import ParameterError
from hdarts.runs.custom import require


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

    def require_fit(self, name: str, classes: int, training: "Images") -> None:
        """Raise ParameterError unless the tensors fit each other, the number of classes and the training images."""
        pixels, labels = self.pixels, self.labels
        found = getattr(pixels, "dtype", torch.uint8), len(pixels.shape)
        require(f"{name}: the type and number of axes (N, C, H, W) of its pixels", found, (torch.uint8, 4))
        require(f"{name}: the shape of an image", self.shape, training.shape)
        wanted = torch.int64, (len(self),)
        require(f"{name}: the type and shape of its labels", (labels.dtype, tuple(labels.shape)), wanted)
        if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= classes:
            found = f"{int(labels.min())} to {int(labels.max())}" if len(labels) else "none"
            raise ParameterError(f"{name}: labels are {found} and have to be 0 to {classes - 1}")
        for of, values in (("mean", self.mean), ("std", self.std)):
            require(f"{name}: the shape of its {of}", values, self.shape[:1])

    def to(self, device: str | torch.device) -> "Images":
        return Images(*(each.to(device) for each in (self.pixels, self.labels, self.mean, self.std)))

    def pixel_batches(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels `(B, H, W, C)` of each batch of rows, on the device of the labels."""
        return (pixels.to(self.labels.device, non_blocking=True) for pixels in _pixel_batches(self.pixels, batches))


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a set, all normalised by the statistics of the training part.

    `validation` is None for validation_fraction 0, `test` unless it was requested. `digest` is the SHA-256 of labels
    and pixels of all parts; `skipped` counts the damaged images that were left out; `unused` counts files that are no
    images of the set, by kind; `noted` counts images by what was done to them, or that are in two parts; `origin` has
    the arguments of `load`, and as `files` the `sources.signature` of the files that it read.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images | None
    digest: str
    skipped: int = 0
    origin: Mapping[str, Any] = field(default_factory=dict)
    unused: Mapping[str, int] = field(default_factory=dict)
    noted: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: str | torch.device) -> "Splits":
        """Return the same with all parts on a device."""
        validation, test = (part and part.to(device) for part in (self.validation, self.test))
        return replace(self, train=self.train.to(device), validation=validation, test=test)

    def require_parts(self, needed: str) -> None:
        """Raise ParameterError unless it has the `needed` part, and its parts fit its classes and each other."""
        if getattr(self, needed) is None:
            way = "a validation_fraction above 0" if needed == "validation" else "test=True"
            raise ParameterError(f"data {self.name}: has no {needed} part; load it with {way}")
        for name in ("train", "validation", "test"):
            if (part := getattr(self, name)) is not None:
                part.require_fit(f"{name} part of data {self.name}", len(self.classes), self.train)

    def summary(self) -> dict[str, Any]:
        """Return the entry of `provenance.json`: which images were used, and all that an exported network needs."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            "name": self.name,
            "digest": self.digest,
            "origin": dict(self.origin),
            **{name: len(part) for name, part in parts.items() if part is not None},
            "damaged_left_out": self.skipped,
            "files_not_used": dict(self.unused),
            "noted": dict(self.noted),
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


def load(name_or_path: str, *, device: str | torch.device = "cpu", **options: Any) -> Splits:
    """Read a set of images into memory, or only list its files, split its training part, and print what was read.

    The options are those of a `Request`. Raises ParameterError for any impossible request, naming the value or file.
    """
    request = Request(name_or_path, **options)
    _require_device(device)
    opened, path = open_set(request, download=True), locate(name_or_path, request.folder)
    name = name_or_path if name_or_path in KNOWN else str(path.absolute())  # type: ignore[union-attr]
    origin = asdict(request) | {"name_or_path": name, "files": signature(path)}

    def read_part(images: RawImages) -> tuple[Any, ImageFilter]:
        if request.stream:
            return scan(images, workers=request.workers, **request.reading)
        return read(images, **request.reading)

    pixels, accepted = read_part(opened.train)
    kept, filters = torch.tensor(accepted.kept), [accepted]
    labels = opened.train.labels[kept]
    rest, chosen = split(opened.train, kept, request.validation_fraction, request.split_seed)
    sha, sums, train_pixels = hashlib.sha256(), torch.zeros(2, pixels.shape[1], dtype=torch.float64), pixels[rest]
    digests = [_read_through(train_pixels, labels[rest], sha, sums)]
    mean, std = _moments(sums, len(rest) * pixels.shape[2] * pixels.shape[3])
    parts: dict[str, Images] = {"training": Images(train_pixels, labels[rest], mean, std)}
    if len(chosen):
        parts["validation"] = Images(pixels[chosen], labels[chosen], mean, std)
        digests.append(_read_through(parts["validation"].pixels, labels[chosen], sha))
    if opened.test is not None:
        tested, accepted = read_part(opened.test)
        filters.append(accepted)
        require_match(accepted, filters[0])
        tested = tested.expand(-1, pixels.shape[1], -1, -1)  # grey among coloured images
        parts["test"] = Images(tested, opened.test.labels[accepted.kept], mean, std)
        digests.append(_read_through(parts["test"].pixels, parts["test"].labels, sha))
    noted = noted_in(filters) | _in_two_parts(dict(zip(parts, digests, strict=True)))
    print(summary(opened, {name: len(part) for name, part in parts.items()}, filters, noted), file=sys.stderr)
    three = parts["training"], parts.get("validation"), parts.get("test")
    more = sum(len(each.damaged) for each in filters), origin, opened.source.unused, noted
    return Splits(opened.source.name, opened.source.classes, *three, sha.hexdigest(), *more).to(device)


def _pixel_batches(pixels: Any, batches: Sequence[Tensor]) -> Iterator[Tensor]:
    if isinstance(pixels, StreamedImages):
        return pixels.pixel_batches(batches)
    return (pixels.permute(0, 2, 3, 1).index_select(0, rows) for rows in batches)


def _require_device(device: str | torch.device) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second where PyTorch is built without CUDA
        raise ParameterError(f"device {device!r} cannot be used here: {str(error).splitlines()[0]}") from error


def _in_two_parts(digests: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count the validation and test images that are, pixel by pixel, also in a part before."""
    before, counts = np.empty(0, np.uint64), dict[str, int]()
    for part, own in digests.items():
        if count := int(np.isin(own, before).sum()):
            counts[f"of the {part} part are also in another part"] = count
        before = np.concatenate([before, own])
    return counts


def _read_through(pixels: Any, labels: Tensor, sha: Any, sums: Tensor | None = None) -> np.ndarray:
    """Read a part once: update the digest with its shape, labels and pixels, and `sums` with sums and squares.

    Returns a digest of each image, `(N,)`.
    """
    each = bytearray()
    sha.update(str(tuple(pixels.shape)).encode())
    sha.update(labels.numpy().data)
    for block in _pixel_batches(pixels, torch.arange(len(pixels)).split(CHUNK)):
        sha.update((array := np.ascontiguousarray(block.numpy())).data)
        for image in array:
            each += hashlib.blake2b(image.data, digest_size=8).digest()
        if sums is not None:  # integers up to 2^53 add up exactly, in any order
            values = block.double()
            sums += torch.stack([values.sum((0, 1, 2)), values.square().sum((0, 1, 2))])
    return np.frombuffer(each, np.uint64)


def _moments(sums: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return mean and population standard deviation of pixels / 255 for each channel, `(C,)` float32.

    A constant channel gets standard deviation 1, so that normalising makes it 0.
    """
    mean, square = sums / count
    variance = square - mean.square()
    std = torch.where(variance > 1e-9 * square, variance, 255.0**2).sqrt()
    return (mean / 255).float(), (std / 255).float()
