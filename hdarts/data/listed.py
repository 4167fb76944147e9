"""A CSV of file names and labels."""

import csv
import io
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from hdarts.data.folders import is_image
from hdarts.data.labels import LABEL_COLUMNS, Labelled, column_of, named_labels, part_of, require_column, source
from hdarts.data.parquet import IMAGE_COLUMNS
from hdarts.data.raw import PARTS, Item, Source, one_name_each
from hdarts.errors import ParameterError

SUFFIXES = (".csv", ".tsv")
PART_COLUMNS = ("split", "part", "subset", "set", "partition")


def listed(path: Path) -> Source:
    """Return the source of a CSV: a column of file names, from its folder, one of labels, and perhaps one of parts.

    Without a column of parts, `train.csv` is the training part beside `validation.csv` and `test.csv`; any other is the
    whole set. Labels are names. Raises ParameterError.
    """
    rows = _rows(path)
    siblings = siblings_of(path)
    if any(part for _, _, part in rows):
        parts = {part: partial(_part, path, [row for row in rows if row[2] == part]) for part in {r[2] for r in rows}}
        if "train" not in parts:
            raise ParameterError(f"{path}: no image is of the part train")
        unused = _unlisted(path, rows)
    elif len(siblings) > 1:
        parts = {part: partial(_read_part, file) for part, file in siblings.items()}
        unused = Counter[str]()
    else:
        parts, unused = {"train": partial(_part, path, rows)}, _unlisted(path, rows)
    return source(path.stem, parts, len(parts) > 1, unused)


def siblings_of(path: Path) -> dict[str, Path]:
    """Return the files of the parts beside `train.csv` that have labels; only itself for a CSV of another name."""
    if part_of(path.stem) != ("train", ""):
        return {"train": path}
    beside = ((part_of(file.stem), file) for file in sorted(path.parent.glob(f"*{path.suffix}")))
    parts = ((part[0], file) for part, file in beside if part and not part[1])
    labelled = ((part, file.name) for part, file in parts if column_of(LABEL_COLUMNS, _table(file)[0]))
    return {part: path.parent / name for part, name in one_name_each(path.parent, labelled).items()} | {"train": path}


Row = tuple[Path, str, str]  # file, label, part or ""


def files_of(path: Path) -> list[Path]:
    """Return the CSV, those of the other parts, and all images that it lists."""
    return [*siblings_of(path).values(), *(file for file, _, _ in _rows(path))]


def _read_part(path: Path) -> Labelled:
    return _part(path, _rows(path))


def _part(path: Path, rows: list[Row]) -> Labelled:
    labels: dict[Path, str] = {}
    for file, label, _ in rows:
        if (other := labels.setdefault(file, label)) != label:
            raise ParameterError(f"{path}: {file} has the labels {other} and {label}; each image needs one label")
    files, repeated = [*labels], len(rows) - len(labels)

    def items(some: Tensor) -> Iterator[tuple[str, Item]]:
        return ((str(files[row]), files[row]) for row in some.tolist())

    notes = (f"{repeated} lines repeat an image, which is used once",) if repeated else ()
    return Labelled([named_labels(str(path), [*labels.values()])], items, notes=notes)


def _table(path: Path) -> list[list[str]]:
    """Return the lines of a CSV that separates by comma, semicolon or tab; the first has the names of the columns."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        mark = max(",;\t", key=text.partition("\n")[0].count)
        return [*csv.reader(io.StringIO(text), delimiter=mark)] or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ParameterError(f"{path}: cannot be read as CSV in UTF-8: {error}") from None


def _rows(path: Path) -> list[Row]:
    """Return file, label and part of the images that a CSV lists."""
    names, *lines = _table(path)
    file = names.index(require_column(path, "images", IMAGE_COLUMNS, names))
    label = names.index(require_column(path, "labels", LABEL_COLUMNS, names))
    part = names.index(column) if (column := column_of(PART_COLUMNS, names)) else -1
    rows: list[Row] = []
    for number, line in enumerate(lines, 2):
        if not any(line):
            continue
        if len(line) != len(names) or not line[file].strip() or not line[label].strip():
            raise ParameterError(f"{path}: line {number} has no file name or no label, or not {len(names)} columns")
        where = "" if part < 0 else line[part].strip().lower()
        if part >= 0 and where not in PARTS:
            raise ParameterError(f"{path}: line {number}: {names[part]} is {where!r}, not train, validation or test")
        rows.append((Path(line[file].strip().replace("\\", "/")), line[label].strip(), PARTS.get(where, "")))
    if not rows:
        raise ParameterError(f"{path}: lists no image")
    folders = (path.parent, path.parent / path.stem, path.parent / "images")
    base = next((folder for folder in folders if (folder / rows[0][0]).is_file()), path.parent)
    return [(base / file, label, where) for file, label, where in rows]


def _unlisted(path: Path, rows: list[Row]) -> Counter[str]:
    """Count images beside the listed ones that are not listed."""
    used = {file for file, _, _ in rows}
    beside = (file for folder in {file.parent for file in used} if folder.is_dir() for file in folder.iterdir())
    count = sum(is_image((file.name,)) and file not in used for file in beside)
    return Counter({f"images that {path.name} does not list": count} if count else {})
