"""Made-up results of runs."""

import json
from pathlib import Path

import pandas as pd

from hdarts.runs.atomic import write_atomic


def put(folder: Path, result: dict | None, **tables: list[dict]) -> None:
    for name, rows in tables.items():
        write_atomic(folder / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    if result is not None:
        write_atomic(folder / "result.json", json.dumps(result).encode())
