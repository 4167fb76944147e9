"""Labels as people have them, numbers or names, as numbers of classes that mean the same in every part of a set."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hdarts.data.raw import PARTS, Item, RawImages, Source, class_labels
from hdarts.errors import ParameterError

LABEL_COLUMNS = ("label", "fine_label", "labels", "class", "class_name", "target", "category", "y")
MAX_CLASSES = 2**16  # a damaged label must not create millions of classes


@dataclass(frozen=True)
class Labels:
    """The labels of a file or array: codes, and the names of the codes 0, 1, ...; none where codes are plain numbers.

    place: what to call the file in messages. complete: the names are those of all classes, ordered by number.
    """

    place: str
    codes: np.ndarray
    names: tuple[str, ...] = ()
    complete: bool = False


@dataclass(frozen=True)
class Labelled:
    """A part of a set before its classes have numbers; `items` are those of `RawImages`.

    notes: what to know about it.
    """

    labels: Sequence[Labels]
    items: Callable[[Tensor], Iterator[tuple[str, Item]]]
    notes: tuple[str, ...] = ()


def source(name: str, parts: Mapping[str, Callable[[], Labelled]], in_parts: bool, unused: Mapping[str, int]) -> Source:
    """Return the source of parts that are opened when needed; that of training, now."""
    train = parts["train"]()
    classes = _classes(train.labels)
    by_name = bool(train.labels[0].names) and not any(labels.complete for labels in train.labels)

    def raw(part: Labelled) -> RawImages:
        numbers = np.concatenate([_numbers(labels, classes, by_name) for labels in part.labels])
        return RawImages(torch.from_numpy(numbers), part.items, notes=part.notes)

    others = {part: lambda opened=opened: raw(opened()) for part, opened in parts.items() if part != "train"}
    return Source(name, classes, raw(train), others, in_parts, unused)


def named_labels(place: str, values: Sequence[object]) -> Labels:
    """Return labels that are names; those that are whole numbers are sorted by value, others as text."""
    used, codes = np.unique(np.array([str(value).strip() for value in values], dtype=object), return_inverse=True)
    whole = all(re.fullmatch(r"-?\d{1,18}", name) for name in used)
    order = sorted(range(len(used)), key=lambda code: int(used[code]) if whole else code)
    if "" in used:
        raise ParameterError(f"{place}: an image has an empty label")
    return Labels(place, np.argsort(order)[codes], tuple(used[code] for code in order))


def part_of(name: str) -> tuple[str, str] | None:
    """Return part and rest of a file name without suffix; after the part another word must begin.

    >>> part_of("Train-00000-of-00002"), part_of("valid"), part_of("training_labels"), part_of("testimony")
    (('train', '-00000-of-00002'), ('validation', ''), ('train', '_labels'), None)
    """
    words = "|".join(sorted(PARTS, key=len, reverse=True))
    found = re.fullmatch(rf"({words})((?![a-z]).*)", name.lower(), re.DOTALL)
    return (PARTS[found[1]], found[2]) if found else None


def column_of(known: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first of the known columns that there is; case, blanks and hyphens do not matter."""
    spelled = {re.sub(r"[\s-]+", "_", name.strip().lower()): name for name in reversed(names)}
    return next((spelled[name] for name in known if name in spelled), None)


def require_column(place: Path, what: str, known: Sequence[str], names: Sequence[str]) -> str:
    """Return the column of that kind; refuse a table without one, with the names that it may have."""
    if (name := column_of(known, names)) is None:
        raise ParameterError(
            f"{place}: has no column of {what}, only {', '.join(names) or 'none'}; name one of them {', '.join(known)}"
        )
    return name


def _classes(labels: Sequence[Labels]) -> tuple[str, ...]:
    """Return the classes of a training part in the order of their numbers."""
    for each in labels:
        if each.complete:
            return each.names
        if bool(each.names) != bool(labels[0].names):
            raise ParameterError(
                f"{each.place}: has numbers where {labels[0].place} has names as labels, or vice versa"
            )
    if labels[0].names:
        classes = named_labels("", [name for each in labels for name in each.names]).names
    else:
        most = max(int(each.codes.max(initial=0)) for each in labels)
        classes = tuple(str(label) for label in range(min(most + 1, MAX_CLASSES)))
    if len(classes) > MAX_CLASSES:
        raise ParameterError(f"{labels[0].place}: {len(classes)} classes are more than {MAX_CLASSES}")
    return classes


def _numbers(labels: Labels, classes: Sequence[str], by_name: bool) -> np.ndarray:
    """Return the numbers of the classes; names decide, where a file or, with `by_name`, the training part has them."""
    if by_name and not labels.names:
        labels = named_labels(labels.place, labels.codes.tolist())
    if labels.names:
        used = np.unique(labels.codes)
        numbers = np.full(len(labels.names), -1)
        in_range = used[(used >= 0) & (used < len(numbers))]
        numbers[in_range] = class_labels(classes, [labels.names[code] for code in in_range], labels.place)
    else:
        numbers = np.arange(len(classes))
    wrong = labels.codes[(labels.codes < 0) | (labels.codes >= len(numbers))]
    if wrong.size:
        raise ParameterError(f"{labels.place}: label {wrong[0]} is not one of 0 to {len(numbers) - 1}")
    return numbers[labels.codes]
