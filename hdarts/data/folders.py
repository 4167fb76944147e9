"""A folder of images by class, in parts or not: which files are images of which class, and what the others are."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from hdarts.data.raw import ADVICE, PARTS, READS_HEIF, RawImages, Source, class_labels, one_name_each
from hdarts.errors import ParameterError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm"),
    *(".jpe", ".jfif", ".tif", ".tiff", ".avif", ".pbm", ".pnm", ".apng"),
    *((".heic", ".heif") if READS_HEIF else ()),
)
SYSTEM = ("__macosx", "thumbs.db", "desktop.ini", "@eadir")  # and what starts with a point
HIDDEN, OUTSIDE = "hidden or system files", "images outside the class folders"

Names = tuple[str, ...]  # of folders and a file, below a root


def image_folder(path: Path) -> Source:
    """Return the source of `<class>/**`, or of such folders in `train/`, and `validation/` or `test/` as far as there.

    Classes are numbered in the order of their sorted names. A class has the images of all folders below its own.
    """
    files, folders = [*walk(path)], _visible(path)
    parts = _parts(path, folders)
    roots = parts or {"train": ""}
    by_part: dict[str, list[Names]] = {part: [] for part in roots}
    unused, inside = Counter[str](), {top: part for part, top in roots.items()}
    for names in files:
        part = inside.get(names[0] if parts else "", "")
        below = names[1:] if parts else names
        if part and is_image(names) and len(below) > 1:
            by_part[part].append(below)
        else:
            unused[OUTSIDE if is_image(names) else kind(names)] += 1
    top = path / roots["train"]
    classes = tuple(_visible(top))
    if not classes or not any(by_part.values()):
        tables = [names for names in files if kind(names) in (".csv", ".tsv", ".npz", ".parquet")]
        hint = f"; it has {'/'.join(tables[0])}, which `data` can name, or its folder" if tables else ""
        if hint or not classes:
            raise ParameterError(f"{path}: contains neither train-*.parquet nor one folder of images per class{hint}")
    return Source(
        path.name,
        classes,
        _by_class(top, by_part["train"], classes),
        {p: lambda p=p: _by_class(path / roots[p], by_part[p], classes) for p in roots if p != "train"},
        in_parts=bool(parts),
        unused=unused,
    )


def walk(folder: Path, above: Names = (), ancestors: Sequence[str] = ()) -> Iterator[Names]:
    """Yield the names of all files below a folder, sorted; links are followed, but to no folder that they are in."""
    ancestors = [*ancestors, os.path.realpath(folder)]
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ParameterError(f"{folder}: cannot be read: {error.strerror}") from None
    for entry in entries:
        link = entry.is_symlink()
        circle = link and os.path.realpath(entry.path) in ancestors
        if (Path(entry.path).is_dir() if link else entry.is_dir()) and not circle:
            yield from walk(Path(entry.path), (*above, entry.name), ancestors)
        else:
            yield (*above, entry.name)


def is_image(names: Names) -> bool:
    """Whether a file is an image by its suffix, and it and its folders are not hidden."""
    return kind(names) in SUFFIXES


def kind(names: Names) -> str:
    """Return the kind of a file: hidden or system, or its suffix."""
    if any(name[0] == "." or name.casefold() in SYSTEM for name in names):
        return HIDDEN
    head, _, suffix = names[-1].rpartition(".")
    return f".{suffix.lower()}" if head else "files without suffix"


def counted(kinds: Mapping[str, int]) -> str:
    """Return numbers of files by their kinds, with what to install to read them."""
    return ", ".join(f"{count} {kind}{ADVICE.get(kind, '')}" for kind, count in sorted(kinds.items()))


def _visible(root: Path) -> list[str]:
    """Return the sorted names of the folders in `root` that are not hidden or of a system."""
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and kind((entry.name,)) != HIDDEN)


def _parts(path: Path, folders: Sequence[str]) -> dict[str, str]:
    """Return the folder of each part; none where the folders are classes, of which one may be of trains.

    Raises ParameterError where parts have folders of classes, but the training part is missing.
    """
    found = one_name_each(path, ((PARTS[word], name) for name in folders if (word := name.casefold()) in PARTS))
    classes = {name for name in folders if name not in found.values()}
    nested = any(_visible(path / name) for name in found.values())
    if found and "train" not in found and (nested or not classes):
        raise ParameterError(f"{path}: has {', '.join(found.values())} but no training part, train/<class>/*")
    of_trains = len(found) == 1 and not nested and len(classes) > 1
    return found if "train" in found and not of_trains else {}


def _by_class(root: Path, files: Iterable[Names], classes: Sequence[str]) -> RawImages:
    """Return the images of a part: `files` are named below `root`, by class."""
    folders = _visible(root)
    labels = dict(zip(folders, class_labels(classes, folders, str(root)), strict=True))
    if len(set(labels.values())) < len(labels):
        raise ParameterError(f"{root}: two of its folders differ only in case or Unicode form; join them")
    ordered = sorted(files, key=lambda names: (labels[names[0]], names))
    numbers = torch.tensor([labels[names[0]] for names in ordered], dtype=torch.int64)
    missing = sorted(set(range(len(classes))) - set(numbers.tolist()))
    if missing:
        more = f", and so do {len(missing) - 1} other classes" if missing[1:] else ""
        lacking, suffixes = root / classes[missing[0]], ", ".join(SUFFIXES)
        others = Counter(kind(names) for names in walk(lacking)) if lacking.is_dir() else {}
        has = f", but {counted(others)}" if others else ""
        raise ParameterError(f"{lacking}: contains no image ({suffixes}){has}{more}")
    paths, nested = [root.joinpath(*names) for names in ordered], sum(len(names) > 2 for names in ordered)
    notes = (f"{nested} images of {root.name} are in folders below those of their classes",) if nested else ()
    return RawImages(numbers, lambda rows: ((str(paths[row]), paths[row]) for row in rows.tolist()), notes=notes)
