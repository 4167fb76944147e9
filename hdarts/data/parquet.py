"""Parquet files in the layout of Hugging Face."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from hdarts.data.folders import SUFFIXES, kind, walk
from hdarts.data.labels import LABEL_COLUMNS, Labelled, Labels, column_of, named_labels, part_of, require_column, source
from hdarts.data.raw import Item, Source, one_name_each
from hdarts.errors import ParameterError

FILE_COLUMNS = ("file", "file_name", "filename", "path", "file_path", "filepath", "image_path", "image_file")
IMAGE_COLUMNS = ("img", "image", "images", *FILE_COLUMNS)


def has_parquet(path: Path) -> bool:
    """Whether `path` is a Parquet file, or a folder with training images in Parquet files."""
    return path.suffix.lower() == ".parquet" if path.is_file() else bool(_candidates(path).get("train"))


def parquet(path: Path) -> Source:
    """Return the source of a folder of `train*.parquet`, or of one training file in such a folder.

    The parts validation and test are in files beside them, named so. Columns: images as encoded bytes, as structs with
    `bytes` or `path`, or as paths from the folder; labels as integers, texts, booleans or categories. Names of classes
    come from the `huggingface` schema metadata, else they are the labels. Raises ParameterError.
    """
    folder, candidates = (path.parent if path.is_file() else path), _candidates(path)
    train = [path] if path.is_file() else _shards(folder, "train", candidates["train"])
    opens = {part: partial(_open, folder, part, files) for part, files in candidates.items() if path not in files}
    opens["train"] = partial(_part, train)
    unused = Counter(kind((file.name,)) for file in candidates.get("train", []) if file not in train)
    if path.is_dir():
        used = {file for part, files in candidates.items() if part != "train" for file in files} | set(train)
        unused = Counter(kind(names) for names in walk(folder) if folder.joinpath(*names) not in used)
        if any(suffix in unused for suffix in SUFFIXES):  # images that the files name, or not
            _, first = next(_encoded(train, torch.zeros(1, dtype=torch.int64)))
            unused = Counter({k: n for k, n in unused.items() if not (isinstance(first, Path) and k in SUFFIXES)})
    return source(path.stem, opens, True, unused)


def _candidates(path: Path) -> dict[str, list[Path]]:
    """Return the Parquet files of a folder that are named as those of a part."""
    found: dict[str, list[Path]] = {}
    folder = path.parent if path.is_file() else path
    for file in sorted(folder.glob("*")):
        part = part_of(file.stem)
        if part and file.suffix.lower() == ".parquet" and file.is_file():
            found.setdefault(part[0], []).append(file)
    return found


def _open(folder: Path, part: str, files: list[Path]) -> Labelled:
    return _part(_shards(folder, part, files))


def _shards(folder: Path, part: str, files: list[Path]) -> list[Path]:
    """Return those files of a part that have its images; refuse two names of it, or some of `-00000-of-00002`.

    Where files are numbered so, others do not belong to them; nor do those without images beside some with images.
    """
    numbers = {file: re.search(r"[-_.](\d+)[-_.]of[-_.](\d+)", file.stem) for file in files}
    shards = {file: (int(found[1]), int(found[2])) for file, found in numbers.items() if found}
    used = list(shards) or [file for file in files if _has_images(file)] or files
    one_name_each(folder, ((part, re.split("[^a-z]", file.stem.lower())[0]) for file in used))
    if not shards:
        return used
    count = max(count for _, count in shards.values())
    missing = sorted(set(range(count)) - {number for number, _ in shards.values()})
    if missing or len(shards) != count:
        several = len({count for _, count in shards.values()}) > 1 or not missing
        fault = "are of several sets" if several else f"lack number {missing[0]} of 0 to {count - 1}"
        raise ParameterError(f"{folder}: the files of the {part} part, {min(shards).name} and so on, {fault}")
    return list(shards)


def _has_images(file: Path) -> bool:
    with _reading(file):
        return column_of(IMAGE_COLUMNS, pq.read_schema(file).names) is not None


def _part(files: list[Path]) -> Labelled:
    for file in files:
        with _reading(file):
            name = _image_column(file)
            if not _can_be_images(form := pq.read_schema(file).field(name).type):
                raise ParameterError(f"{file}: column {name} has to contain encoded images or paths, not {form}")
    notes = (f"{len(files)} files joined, {files[0].name} to {files[-1].name}",) if len(files) > 1 else ()
    return Labelled([_labels(file) for file in files], partial(_encoded, files), notes=notes)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn any error of pyarrow over a missing or damaged file into a `ParameterError` that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeError, MemoryError) as error:
        raise ParameterError(f"{file}: cannot be read as Parquet: {' '.join(str(error).split())}") from error


def _image_column(file: Path) -> str:
    return require_column(file, "images", IMAGE_COLUMNS, pq.read_schema(file).names)


def _labels(file: Path) -> Labels:
    with _reading(file):
        name = require_column(file, "labels", LABEL_COLUMNS, pq.read_schema(file).names)
        column = pq.read_table(file, columns=[name])[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_floating(column.type) and not (column.to_numpy() % 1).any():  # nan % 1 is nan, which is true
            column = column.cast(pa.int64())
        text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        whole = pa.types.is_integer(column.type)
        if column.null_count or not (text or whole or pa.types.is_boolean(column.type)):
            found = f"has type {column.type} and {column.null_count} empty rows"
            raise ParameterError(f"{file}: column {name} {found}; each row needs an integer, a text or a boolean")
        if whole:
            names = _class_names(file, name)
            return Labels(str(file), column.to_numpy().astype(np.int64), names, bool(names))
        return named_labels(str(file), column.to_pylist())


def _class_names(file: Path, name: str) -> tuple[str, ...]:
    """Return the names in label order; none for files that were not written by the `datasets` library."""
    metadata = pq.read_schema(file).metadata or {}
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
                    yield str(item) if isinstance(item, Path) else f"{file}, row {start - first_row + row}", item
            start = stop


def _row_group(file: Path, group: int, wanted: np.ndarray) -> list[bytes | Path | None]:
    with _reading(file):
        name = _image_column(file)
        column = pq.ParquetFile(file).read_row_group(group, columns=[name])[name].take(pa.array(wanted))
        return [_item(file.parent, value) for value in column.to_pylist()]


def _can_be_images(form: pa.DataType) -> bool:
    if pa.types.is_struct(form):
        return any(form.get_field_index(name) >= 0 for name in ("bytes", "path"))
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_string, pa.types.is_large_string)
    return any(kind(form) for kind in kinds)


def _item(folder: Path, value: Any) -> bytes | Path | None:
    """Return an image as its bytes or, where there are none, as its path, from the folder of the file."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    return folder / value if isinstance(value, str) else value
