"""Sets of images that are not yet read, and which of their images are for training, the outer level and testing."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hdarts.data.subsets import stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator

Item = np.ndarray | bytes | Path | None
"""An image: pixels `(H, W, C)` uint8, the bytes of an encoded file, its path, or None where it is missing."""
Shape = tuple[int, int, int]
PARTS = {  # by the names that folders, files, columns and arrays have
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
HELD_OUT = 0.2  # of a set that is not in parts
READS_HEIF = find_spec("pillow_heif") is not None
# by suffix, for files that cannot be read here
ADVICE: dict[str, str] = (
    {} if READS_HEIF else dict.fromkeys((".heic", ".heif"), " (pip install pillow-heif reads them)")
)


@dataclass(frozen=True)
class RawImages:
    """A part of a source: labels, and images that are read while `items(rows)` is iterated.

    `items` takes ascending rows and yields `(name, item)`; `name` identifies the image in messages. `outer` marks the
    images of the outer level, where the set says which they are. `notes` say what else to know about the part.
    """

    labels: Tensor
    items: Callable[[Tensor], Iterator[tuple[str, Item]]]
    outer: Tensor | None = None
    notes: tuple[str, ...] = ()

    def all(self) -> Iterator[tuple[str, Item]]:
        """Yield the names and items of all images."""
        return self.items(torch.arange(len(self.labels)))

    def subset(self, rows: Tensor) -> "RawImages":
        outer = None if self.outer is None else self.outer[rows]
        return replace(self, labels=self.labels[rows], items=lambda some: self.items(rows[some]), outer=outer)


@dataclass(frozen=True)
class Source:
    """A set of images that are not yet read.

    parts: how to open its parts `validation` and `test`, as far as it has them. in_parts: whether it says itself what
    is for training. unused: numbers of files by kind that are no images of the set.
    """

    name: str
    classes: tuple[str, ...]
    train: RawImages
    parts: Mapping[str, Callable[[], RawImages]] = field(default_factory=dict)
    in_parts: bool = True
    unused: Mapping[str, int] = field(default_factory=dict)


def array_images(pixels: np.ndarray, labels: np.ndarray | Tensor, name: str) -> RawImages:
    """Return images in memory, `pixels` `(N, H, W, C)` uint8."""
    return RawImages(
        torch.as_tensor(labels, dtype=torch.int64),
        lambda rows: ((f"{name}, row {row}", pixels[row]) for row in rows.tolist()),
    )


def one_name_each(place: Path, named: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the one name of each part, of pairs `(part, name)`; refuse a part with two names."""
    found: dict[str, str] = {}
    for part, name in named:
        if (other := found.setdefault(part, name)) != name:
            raise ParameterError(f"{place}: both {other} and {name} mean {part}; rename one")
    return found


def fold(name: str) -> str:
    """Return a name without what differs between file systems: case and Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def require_classes(source: Source) -> None:
    """Refuse a set with fewer than two classes, or with two that only differ in case or Unicode form."""
    seen: dict[str, str] = {}
    for name in source.classes:
        if (other := seen.setdefault(fold(name), name)) is not name:
            raise ParameterError(
                f"{source.name}: classes {other!r} and {name!r} differ only in case or Unicode form; rename one, or "
                "join them"
            )
    if len(seen) < 2:
        raise ParameterError(
            f"{source.name}: has one class, {', '.join(source.classes)}; two or more are needed, so name the folder "
            "that contains the class folders, or add a class"
        )


def class_labels(classes: Sequence[str], names: Sequence[str], place: str) -> list[int]:
    """Return the numbers of classes by their names, which may differ in case and Unicode form."""
    numbers = {fold(name): number for number, name in enumerate(classes)}
    for name in names:
        if fold(name) not in numbers:
            some = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
            raise ParameterError(f"{place}: {name} is not a class of the training part, {some}")
    return [numbers[fold(name)] for name in names]


def joined(one: RawImages, other: RawImages) -> RawImages:
    """Return the images of two parts, the second marked as those of the outer level."""
    count = len(one.labels)

    def items(rows: Tensor) -> Iterator[tuple[str, Item]]:
        return chain(one.items(rows[rows < count]), other.items(rows[rows >= count] - count))

    labels = torch.cat([one.labels, other.labels])
    return RawImages(labels, items, torch.arange(len(labels)) >= count, one.notes + other.notes)


OpenPart = Callable[[], RawImages]


def assign(source: Source, validation_part: str, test_fraction: float) -> tuple[RawImages, OpenPart | None, list[str]]:
    """Return training images, how to open the test images (None: there are none), and what to know about the parts.

    validation_part: `unused`, or what the validation part of the set is for: the `outer` level or `test`.
    test_fraction: of the training images, held out for testing where the set has no test part; 0: a fifth where the
    set is not in parts, else none. They are class-balanced and the same for every seed.
    """
    parts, train, notes = dict(source.parts), source.train, list[str]()
    if validation_part == "unused":
        if "validation" in parts:
            notes.append("the validation part is not used (validation_part: outer or test)")
    elif "validation" not in parts:
        raise ParameterError(f"validation_part is {validation_part}, but {source.name} has no validation part")
    if validation_part == "test":
        notes.append("the validation part is for testing" + ("; the test part is not used" if "test" in parts else ""))
        parts["test"] = parts["validation"]
    if test_fraction and "test" in parts:
        raise ParameterError(f"test_fraction is {test_fraction}, but {source.name} has a test part; set it to 0")
    if fraction := test_fraction or (0.0 if source.in_parts else HELD_OUT):
        rest, chosen = stratified_split(train.labels, fraction, generator(0, "held-out test part"))
        if not len(rest):
            raise ParameterError(f"test_fraction {fraction} of {len(chosen)} images leaves none for training")
        if len(chosen):
            parts["test"] = partial(train.subset, chosen)
        notes.append(f"{len(chosen)} images are held out for testing (test_fraction)")
        train = train.subset(rest)
    if validation_part == "outer":
        train = joined(train, parts["validation"]())
        notes.append("the validation part is the outer level")
    return train, parts.get("test"), notes
