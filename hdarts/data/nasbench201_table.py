"""The table of NAS-Bench-201: the accuracy of each of its 15,625 cells, trained from scratch.

Accuracies in per cent after 200 epochs, the mean of a cell's 1 to 3 trainings (Dong and Yang, ICLR 2020; Dong, Liu,
Musial and Gabrys, TPAMI 2021). The table is for comparison only: no search may depend on it.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hdarts.data import data_folders
from hdarts.errors import ParameterError
from hdarts.space import Genotype, every_cell, skip_count

FILE = "nasbench201.parquet"
DATA_SETS = {
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "imagenet16_120": "ImageNet16-120",
}  # name here: name in the API
PARTS = {"valid": "validation", "test": "test"}  # name in the file: name here
COLUMNS = {f"{data}_{part}_200ep": f"{data}_{name}" for data in DATA_SETS for part, name in PARTS.items()}
TEXTS = ("architecture", "unique_string")
DARTS_PUBLISHED = 54.30  # CIFAR-10 test accuracy of both orders of DARTS in the paper: all edges skip connections


@dataclass(frozen=True)
class BenchmarkTable:
    """All cells by their string form: `<data>_validation` and `<data>_test` (per cent) of three data sets, and ranks.

    `<data>_rank`: 1 + number of cells with a better test accuracy; `<data>_percentile`: per cent of all cells that
    are worse; `<data>_regret`: test accuracy of the best cell less that of this cell; `group`: an identifier
    shared by cells that compute the same function.
    """

    cells: pd.DataFrame

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, name: str | Path = "table") -> "BenchmarkTable":
        """Build the table from the columns of the file; raise `ParameterError` where columns or cells are missing."""
        if missing_columns := [column for column in (*TEXTS, *COLUMNS) if column not in frame]:
            raise ParameterError(f"{name}: lacks the column {missing_columns[0]!r} of a table of NAS-Bench-201")
        cells = frame.loc[:, [*TEXTS, *COLUMNS]].rename(columns={"unique_string": "group", **COLUMNS})
        cells = cells.set_index("architecture")
        wanted = _strings()
        if len(missing := wanted.difference(cells.index)):
            raise ParameterError(f"{name}: lacks {len(missing)} of the {len(wanted):,} cells, such as {missing[0]}")
        if len(cells) != len(wanted):
            raise ParameterError(f"{name}: has {len(cells):,} rows for the {len(wanted):,} cells")
        values = cells[list(COLUMNS.values())]
        good = values.apply(pd.to_numeric, errors="coerce").apply(lambda column: column.between(0, 100))
        if not bool(good.to_numpy().all()):
            cell, column = good.stack().idxmin()  # type: ignore[misc]
            raise ParameterError(
                f"{name}: {column} of {cell} is {values.loc[cell, column]!r}, which is not a percentage"
            )
        for data in DATA_SETS:
            test = cells[f"{data}_test"]
            cells[f"{data}_rank"] = test.rank(method="min", ascending=False).astype(int)
            cells[f"{data}_percentile"] = 100 * (test.rank(method="min") - 1) / len(test)
            cells[f"{data}_regret"] = test.max() - test
        return cls(cells)

    @classmethod
    def read(cls) -> "BenchmarkTable":
        """Read the table from the data folder (`$HDARTS_DATA`) or its subfolder `nasbench201/`."""
        if (path := table_path()) is None:
            raise ParameterError(
                f"{FILE} is not in {data_folders('')[-1]} nor in its nasbench201/: put it there, or make it from the "
                "official NATS-Bench file (NATS-tss-v1_0, github.com/D-X-Y/NATS-Bench) with hdarts convert-benchmark"
            )
        try:
            frame = pd.read_parquet(path)
        except Exception as error:  # pyarrow raises several kinds of error for a damaged file
            raise ParameterError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None
        return cls.from_frame(frame, path)

    def lookup(self, cell: Genotype | str) -> dict[str, Any]:
        """Return string form, skip connections and all columns of a cell; raise `ParameterError` for others."""
        genotype = cell if isinstance(cell, Genotype) else Genotype.from_string(cell)
        text = genotype.to_string()
        return {"cell": text, "skips": skip_count(genotype), **self.cells.loc[text].drop("group").to_dict()}

    def noise(self, data: str) -> float:
        """Return the noise floor of a test accuracy, in points: the spread of cells that compute the same function.

        Pooled standard deviation within these groups, sqrt(sum (x - mean of its group)^2 / sum (n_group - 1)).
        """
        groups = self.cells.groupby("group")[f"{data}_test"]
        squares = (self.cells[f"{data}_test"] - groups.transform("mean")) ** 2
        return float(np.sqrt(squares.sum() / (len(squares) - groups.ngroups)))

    def best_of(self, draws: int) -> float:
        """Return the expected CIFAR-10 test accuracy of the cell that validates best among k random draws.

        With replacement, the cell of rank r from below of n is the best with probability (r^k - (r - 1)^k) / n^k; k = 1
        gives the mean of all cells.
        """
        tests = self.cells.sort_values("cifar10_validation")["cifar10_test"].to_numpy()
        chances = np.diff((np.arange(len(tests) + 1) / len(tests)) ** draws)
        return float(chances @ tests)


@functools.cache
def _strings() -> pd.Index:
    return pd.Index([cell.to_string() for cell in every_cell()])


def table_path() -> Path | None:
    """Return the file of the table, or None where it is missing."""
    paths = [place / name for place in data_folders("") for name in (f"nasbench201/{FILE}", FILE)]
    return next((path for path in paths if path.is_file()), None)
