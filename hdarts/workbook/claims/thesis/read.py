"""The thesis's tables, and columns, cells and captions in them by name."""

from collections.abc import Callable
from importlib.resources import files

import pandas as pd

from hdarts.workbook.analysis import Row

# columns whose values look like numbers and are names: 1.2 is an experiment
TEXT = ("experiment", "says", "quote")


def table(name: int | str) -> pd.DataFrame:
    """Return table 1 to 23 of the thesis by its number, or another file of this folder by its name, such as "costs".

    Raises ValueError for a name without a file.
    """
    file = files("hdarts.workbook.claims.thesis") / (f"table{name:02d}.csv" if isinstance(name, int) else f"{name}.csv")
    if not file.is_file():
        raise ValueError(f"the thesis's numbers have no table {str(name)!r}")
    with file.open(encoding="utf-8") as stream:
        return pd.read_csv(stream, dtype=dict.fromkeys(TEXT, "str"), keep_default_na=False, na_values=[""])


class Tables:
    """Columns, cells and captions of the thesis by name; `read` gives a table (tests plant errors in it)."""

    def __init__(self, read: Callable[[int | str], pd.DataFrame] = table) -> None:
        self.read = read

    def rows(self, name: int | str) -> list[Row]:
        """Return the rows of a table, one dict per row."""
        return [{str(column): value for column, value in row.items()} for row in self.read(name).to_dict("records")]

    def column(self, name: int | str, column: str) -> list[float]:
        """Return the numbers of a column, without its empty cells."""
        return [float(value) for value in self.read(name)[column].dropna()]

    def cell(self, name: int | str, column: str, row: float | str) -> float:
        """Return the number in the row whose first cell is `row`; raises ValueError unless there is exactly one."""
        found = [cells for cells in self.rows(name) if next(iter(cells.values())) == row]
        if len(found) != 1:
            raise ValueError(f"{len(found)} rows of table {name} are named {row!r}")
        return float(found[0][column])

    def caption(self, kind: str, *, number: int = 0, experiment: str = "") -> Row:
        """Return the first caption of a `kind` (table, figure) with this number, or presented by this experiment."""
        captions = (row for row in self.rows("captions") if row["kind"] == kind)
        return next(row for row in captions if row["number"] == number or row["experiment"] == experiment)
