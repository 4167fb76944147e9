"""User-defined data sets: Parquet in the Hugging Face layout, and a folder of images by class."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hdarts.data.decode import Item, RawImages, Source
from hdarts.data.subsets import stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator

IMAGE_COLUMNS, LABEL_COLUMNS = ("img", "image"), ("label", "fine_label")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm")
MAX_CLASSES = 2**16  # without class names: a damaged label must not create millions of classes
HELD_OUT = 0.2  # of a set without a test part


def hold_out(name: str, classes: tuple[str, ...], whole: RawImages) -> Source:
    """Return a source whose test part is a fixed, class-balanced fifth of `whole`, the same for every seed."""
    rest, chosen = stratified_split(whole.labels, HELD_OUT, generator(0, "held-out test part"))
    return Source(name, classes, whole.subset(rest), lambda: whole.subset(chosen))


def has_parquet(path: Path) -> bool:
    """Whether `path` is a Parquet file, or a folder with training images in Parquet files."""
    return path.suffix == ".parquet" if path.is_file() else bool(_files(path, "train"))


def parquet(path: Path) -> Source:
    """Return the source of a folder of `train*.parquet` and `test*.parquet`, or of one training file in such a folder.

    Columns: `img` or `image` (encoded bytes, or a struct with the field `bytes`), `label` or `fine_label` (integers).
    Class names come from the `huggingface` schema metadata, otherwise they are the numbers. Raises ParameterError.
    """
    folder, files = (path.parent, [path]) if path.is_file() else (path, _files(path, "train"))
    labels, classes = [_labels(file) for file in files], _class_names(files[0])
    if not classes:
        most = max(int(some.max(initial=0)) for some in labels)
        classes = tuple(str(label) for label in range(min(most + 1, MAX_CLASSES)))

    def images(files: list[Path], labels: list[np.ndarray]) -> RawImages:
        for file, some in zip(files, labels, strict=True):
            wrong = some[(some < 0) | (some >= len(classes))]
            if wrong.size:
                raise ParameterError(f"{file}: label {wrong[0]} is not one of 0 to {len(classes) - 1}")
        return RawImages(torch.from_numpy(np.concatenate(labels)), lambda rows: _encoded(files, rows))

    def open_test() -> RawImages:
        tests = _files(folder, "test")
        if not tests:
            raise ParameterError(f"{folder}: has no test part; add its images as test-*.parquet")
        return images(tests, [_labels(file) for file in tests])

    return Source(path.stem, classes, images(files, labels), open_test)


def _files(folder: Path, part: str) -> list[Path]:
    return sorted(folder.glob(f"{part}*.parquet"))


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn any error of pyarrow over a missing or damaged file into a `ParameterError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        raise ParameterError(f"{file}: cannot be read as Parquet: {' '.join(str(error).split())}") from error


def _column(file: Path, known: tuple[str, ...]) -> str:
    names = pq.read_schema(file).names
    for name in known:
        if name in names:
            return name
    raise ParameterError(f"{file}: has no column {' or '.join(known)}, only {', '.join(names)}")


def _labels(file: Path) -> np.ndarray:
    with _reading(file):
        name = _column(file, LABEL_COLUMNS)
        column = pq.read_table(file, columns=[name])[name]
        if not pa.types.is_integer(column.type) or column.null_count:
            raise ParameterError(f"{file}: column {name} has to contain an integer in every row")
        return column.to_numpy().astype(np.int64)


def _class_names(file: Path) -> tuple[str, ...]:
    """Return the names in label order; none for files that were not written by the `datasets` library."""
    with _reading(file):
        metadata, name = pq.read_schema(file).metadata or {}, _column(file, LABEL_COLUMNS)
    try:
        return tuple(str(each) for each in json.loads(metadata[b"huggingface"])["info"]["features"][name]["names"])
    except (KeyError, TypeError, ValueError):
        return ()


def _encoded(files: list[Path], rows: Tensor) -> Iterator[tuple[str, Item]]:
    """Yield the encoded images of ascending `rows`, counted over all files, one row group in memory at a time."""
    start = 0
    for file in files:
        with _reading(file):
            first_row, groups = start, pq.read_metadata(file)
        for group in range(groups.num_row_groups):
            stop = start + groups.row_group(group).num_rows
            wanted = (rows[(rows >= start) & (rows < stop)] - start).numpy()
            if wanted.size:
                for row, item in zip(wanted, _row_group(file, group, wanted), strict=True):
                    yield f"{file}, row {start - first_row + row}", item
            start = stop


def _row_group(file: Path, group: int, wanted: np.ndarray) -> list[bytes | None]:
    with _reading(file):
        name = _column(file, IMAGE_COLUMNS)
        column = pq.ParquetFile(file).read_row_group(group, columns=[name])[name].take(pa.array(wanted))
        if pa.types.is_struct(column.type) and column.type.get_field_index("bytes") >= 0:
            return [value and value["bytes"] for value in column.to_pylist()]
        if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            return column.to_pylist()
        raise ParameterError(f"{file}: column {name} has to contain encoded images, not {column.type}")


def image_folder(path: Path) -> Source:
    """Return the source of `train/<class>/*` and `test/<class>/*`, or of `<class>/*` with a held-out test part.

    Classes are numbered in the order of their sorted names; files with other suffixes are ignored.
    """
    has_test = (path / "train").is_dir()
    root = path / "train" if has_test else path
    classes = tuple(_visible(root, folders=True))
    if not classes:
        raise ParameterError(f"{path}: contains neither train-*.parquet nor one folder of images per class")
    train = _class_folders(root, classes)
    if not has_test:
        return hold_out(path.name, classes, train)

    def open_test() -> RawImages:
        if not (path / "test").is_dir():
            raise ParameterError(f"{path}: has no test part; add its images as test/<class>/*")
        return _class_folders(path / "test", classes)

    return Source(path.name, classes, train, open_test)


def _visible(root: Path, folders: bool) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() == folders and entry.name[0] != ".")


def _class_folders(root: Path, classes: tuple[str, ...]) -> RawImages:
    unknown = set(_visible(root, folders=True)) - set(classes)
    if unknown:
        raise ParameterError(f"{root}: {min(unknown)} is not a class of the training part, {', '.join(classes)}")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        folder = root / name
        names = _visible(folder, folders=False) if folder.is_dir() else []
        images = [folder / file for file in names if Path(file).suffix.lower() in SUFFIXES]
        if not images:
            raise ParameterError(f"{folder}: contains no image ({', '.join(SUFFIXES)})")
        files += images
        labels += [label] * len(images)
    return RawImages(torch.tensor(labels), lambda rows: ((str(files[row]), files[row]) for row in rows.tolist()))
