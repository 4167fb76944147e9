"""A table of NAS-Bench-201 with random accuracies, for tests that do not need the true ones."""

from pathlib import Path

import numpy as np
import pandas as pd

from hdarts.data.nasbench201_table import COLUMNS, FILE
from hdarts.space import every_cell


def random_table(seed: int = 0) -> pd.DataFrame:
    """Return the columns of the file; every three cells share a group."""
    cells = [cell.to_string() for cell in every_cell()]
    draw = np.random.default_rng(seed)
    accuracies = {column: draw.uniform(10, 95, len(cells)) for column in COLUMNS}
    return pd.DataFrame({"architecture": cells, "unique_string": [str(i // 3) for i in range(len(cells))]} | accuracies)


def write_table(folder: Path, seed: int = 0) -> Path:
    """Write a random table into a data folder."""
    (folder / "nasbench201").mkdir(parents=True)
    random_table(seed).to_parquet(folder / "nasbench201" / FILE, index=False)
    return folder
