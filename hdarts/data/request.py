"""Which images a run reads, what the set has of them, and what is not used: known before any image is decoded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hdarts.data.decode import ImageFilter, read_headers
from hdarts.data.folders import counted
from hdarts.data.raw import RawImages, Source, assign
from hdarts.data.sources import find
from hdarts.data.streaming import require_files
from hdarts.data.subsets import balanced_subset, stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator


@dataclass(frozen=True)
class Request:
    """Which images to read, and how.

    name_or_path: one of `sources.KNOWN`; a file of images and labels (Parquet, CSV, NumPy); a folder of Parquet files
    or of images by class.
    folder: where sets are searched for and downloaded to; "" is HDARTS_DATA or `~/.cache/hdarts` (`data_folders`).
    limit, test_limit: size of a fixed class-balanced subset of the training (before the split) or test part; 0: all.
    image_size: side to which the largest centred square of every image is resized; 0: original size.
    image_channels: that all images are converted to; "auto": 1 if all training images are grey, otherwise 3.
    validation_part, test_fraction: what a validation part of the set is for, and the fraction of the training images
    that is held out where there is no test part (`raw.assign`).
    validation_fraction, split_seed: fraction of the training part, of each class, that becomes the validation part;
    with 0, all are for training. With validation_part "outer", the set says which are.
    test: open the test part; otherwise its files and arrays are not touched.
    skip_damaged: leave out files that cannot be read as images, and print how many, instead of refusing them.
    stream, workers: read the images of a folder batch by batch, with so many processes.
    """

    name_or_path: str
    folder: str = ""
    limit: int = 0
    test_limit: int = 0
    image_size: int = 0
    image_channels: Literal["auto", 1, 3] = "auto"
    validation_part: Literal["unused", "outer", "test"] = "unused"
    test_fraction: float = 0.0
    validation_fraction: float = 0.5
    split_seed: int = 0
    test: bool = False
    skip_damaged: bool = False
    stream: bool = False
    workers: int = 0

    def __post_init__(self) -> None:
        for name in ("limit", "test_limit", "image_size"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} is {getattr(self, name)} and has to be 0 or more")
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ParameterError(f"{name} is {getattr(self, name)} and has to be from 0 to below 1")
        if isinstance(self.image_channels, bool) or self.image_channels not in ("auto", 1, 3):
            raise ParameterError(f"image_channels is {self.image_channels!r} and has to be auto, 1 or 3")

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `decode.read` that say how."""
        channels = 0 if self.image_channels == "auto" else self.image_channels
        return {"size": self.image_size, "channels": channels, "skip_damaged": self.skip_damaged}


class Opened(NamedTuple):
    """The parts of a set that a request reads (`test`: None if it was not asked for), and what to know about them."""

    source: Source
    train: RawImages
    test: RawImages | None
    notes: list[str]


def open_set(request: Request, download: bool) -> Opened:
    """Open the parts of a set; refuse one without a test part if it was asked for, and one that lacks a class."""
    source = find(request.name_or_path, request.folder, request.limit, request.test_limit, download)
    train, open_test, notes = assign(source, request.validation_part, request.test_fraction)
    if request.test and open_test is None:
        other = "; validation_part: test uses its validation part" if "validation" in source.parts else ""
        raise ParameterError(
            f"{source.name}: has no test part; add its images (test/<class>/*, test-*.parquet, test.csv, x_test), or "
            f"hold some of the training images out (test_fraction: 0.2){other}"
        )
    test = open_test() if request.test and open_test else None
    if test is not None:
        if missing := sorted(set(train.labels.tolist()) - set(test.labels.tolist())):
            names = ", ".join(source.classes[label] for label in missing[:3]) + (", ..." if missing[3:] else "")
            raise ParameterError(f"{source.name}: the test part has no image of {len(missing)} classes: {names}")
        test = _subset(test, request.test_limit, source, "test_limit")
    if absent := [name for label, name in enumerate(source.classes) if not (train.labels == label).any()]:
        notes.append(f"{len(absent)} classes without a training image, such as {absent[0]}")
    train = _subset(train, request.limit, source, "limit")
    if request.stream:
        next(require_files(train))
    return Opened(source, train, test, notes)


def _subset(images: RawImages, count: int, source: Source, name: str) -> RawImages:
    if not count:
        return images
    if not len(source.classes) <= count <= len(images.labels):
        raise ParameterError(
            f"{name} of {source.name} is {count} and has to be 0 or from {len(source.classes)} (one per class) to "
            f"{len(images.labels)} (all images)"
        )
    return images.subset(balanced_subset(images.labels, count, generator(0, "class-balanced subset")))


def split(images: RawImages, kept: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return which of the rows that were kept are for training, and which for the outer level."""
    if images.outer is not None and fraction:
        rest, chosen = ((images.outer[kept] == outer).nonzero().flatten() for outer in (False, True))
    else:
        rest, chosen = stratified_split(images.labels[kept], fraction, generator(seed, "validation split"))
    if not len(rest) or (fraction and not len(chosen)):
        part = "validation" if len(rest) else "training"
        raise ParameterError(f"validation_fraction {fraction} of {len(kept)} images leaves no {part} part")
    return rest, chosen


def require_match(test: ImageFilter, train: ImageFilter) -> None:
    """Refuse test images of another shape (H, W, C); grey ones among colour get three channels."""
    if test.shape[2] > train.shape[2] or test.shape[:2] != train.shape[:2]:
        shapes = ["x".join(str(each.shape[axis]) for axis in (2, 0, 1)) for each in (train, test)]
        raise ParameterError(
            f"training images are {shapes[0]} (channels, height, width) but test images {shapes[1]}, such as "
            f"{test.first}; image_size and image_channels (1: grey, 3: colour) make them equal"
        )


def summary(opened: Opened, counts: Mapping[str, int], filters: Sequence[ImageFilter], noted: Mapping[str, int]) -> str:
    """Return one line: images by part, and all that is not used, or not used as it is."""
    height, width, channels = filters[0].shape
    text = ", ".join(f"{count} {part}" for part, count in counts.items() if count)
    every = [f"{text} images of {len(opened.source.classes)} classes, {width}x{height}, {channels} channels"]
    every += dict.fromkeys([*opened.train.notes, *(opened.test.notes if opened.test else ()), *opened.notes])
    if noted:
        every.append("images " + ", ".join(f"{kind}: {count}" for kind, count in noted.items()))
    if opened.source.unused:
        every.append(f"files not used: {counted(opened.source.unused)}")
    if damaged := [sentence for each in filters for sentence in each.damaged]:
        every.append(f"left out {len(damaged)} damaged images, the first is {damaged[0]}")
    return f"{opened.source.name}: {'; '.join(every)}"


def noted_in(filters: Sequence[ImageFilter]) -> dict[str, int]:
    """Return how many images of all parts something was done to."""
    return dict(sum((Counter(each.notes) for each in filters), Counter()))


class DatasetInfo(NamedTuple):
    """Numbers of training and validation images, channels, height and width of one, number of classes.

    `test` counts test images, if they were asked for; `line` says what else to know.
    """

    train: int
    validation: int
    shape: tuple[int, ...]
    classes: int
    test: int = 0
    line: str = ""


def dataset_info(name_or_path: str, *, download: bool = False, every: bool = False, **options: Any) -> DatasetInfo:
    """Describe what `load` would give for the options of a `Request`, from names, labels and headers; decode nothing.

    The header of one image per part is read or, with `every`, those of all, for at most `decode.HEADERS` seconds.
    Raises what `load` would raise. A known set is downloaded only with `download`.
    """
    request = Request(name_or_path, **options)
    opened = open_set(request, download)
    rest, chosen = split(opened.train, torch.arange(len(opened.train.labels)), request.validation_fraction, 0)
    counts = {"training": len(rest), "validation": len(chosen)}
    parts = [part for part in (opened.train, opened.test) if part is not None]
    some = parts if every else [part.subset(torch.zeros(1, dtype=torch.int64)) for part in parts]
    checked, filters = zip(*(read_headers(part, **request.reading) for part in some), strict=True)
    require_match(filters[-1], filters[0])
    if opened.test is not None:
        counts["test"] = len(opened.test.labels)
    if every and sum(checked) < (of := sum(counts.values())):
        opened.notes.append(f"the headers of {sum(checked)} of {of} images were checked")
    line = summary(opened, counts, filters, noted_in(filters))
    shape = filters[0].shape[2], *filters[0].shape[:2]
    return DatasetInfo(len(rest), len(chosen), shape, len(opened.source.classes), counts.get("test", 0), line)
