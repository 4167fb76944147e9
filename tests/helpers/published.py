"""The published cells of the DARTS space and what was reported of them, from the data folder."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


def published(table: str = "genotypes") -> list[dict[str, Any]]:
    """Return the rows of a table of HDARTS_DATA/darts_space, of genotypes those in the DARTS space; skip without it."""
    path = Path(os.environ.get("HDARTS_DATA", "")) / "darts_space" / f"{table}.parquet"
    if not path.is_file():
        pytest.skip(f"HDARTS_DATA contains no darts_space/{table}.parquet")
    rows: list[dict[str, Any]] = pd.read_parquet(path).to_dict(orient="records")  # type: ignore[assignment]
    return [row for row in rows if row.get("in_darts_space", True)]
