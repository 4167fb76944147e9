"""The thesis's numbers as tables, and the short references by which `stated.csv` names them."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pandas as pd

# columns that look like numbers and are words: 1.2 is an experiment, 97.40 has two decimals
TEXT = ("stated", "of", "tolerance", "cause", "experiment", "says", "quote")
Read = Callable[[str], pd.DataFrame]  # the table of a name; tests pass one with planted errors


def table(name: int | str) -> pd.DataFrame:
    """Return table 1 to 23 of the thesis by its number, or another file of this folder by its name, such as "costs".

    Raises ValueError for a name of which there is no file.
    """
    text = str(name)
    file = files("hdarts.workbook.claims.thesis") / (f"table{int(text):02d}.csv" if text.isdecimal() else f"{text}.csv")
    if not file.is_file():
        raise ValueError(f"the thesis's numbers have no table {text!r}")
    with file.open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=dict.fromkeys(TEXT, "str"), keep_default_na=False, na_values=[""])


def rows(read: Read, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table, a dict a row."""
    return [{str(column): value for column, value in row.items()} for row in read(name).to_dict("records")]


def values(read: Read, reference: str) -> list[float]:
    """Return the numbers that `reference` names: `3.cifar10` a column, `7.validation_accuracy@1` one cell, `24` itself.

    The row behind `@` is told by the table's first column. Raises ValueError where there is no such row.
    """
    if "." not in reference or reference.replace(".", "", 1).isdecimal():
        return [float(reference)]
    name, _, place = reference.partition(".")
    column, _, row = place.partition("@")
    found = rows(read, name)
    if row:
        found = [cells for cells in found if _same(next(iter(cells.values())), row)]
        if len(found) != 1:
            raise ValueError(f"{reference}: {len(found)} rows of table {name} are named {row!r}")
    return [float(cells[column]) for cells in found if cells[column] == cells[column]]


def _same(key: object, row: str) -> bool:
    """Whether a key such as `0 & 1`, 1 or 2.0 is the `row` written in a reference."""
    if isinstance(key, str):
        return key.replace(" ", "") == row
    return row.replace(".", "", 1).isdecimal() and float(str(key)) == float(row)
