"""Made-up results of runs."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from hdarts.runs.atomic import write_atomic


def put(folder: Path, result: dict | None, **tables: list[dict]) -> None:
    """Write the tables and, if there is one, the result of a run."""
    for name, rows in tables.items():
        write_atomic(folder / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False).encode())
    if result is not None:
        write_atomic(folder / "result.json", json.dumps(result).encode())


class MadeUpStudy:
    """A study in the folder `mine` whose runs are written one by one."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.rows = runs, []

    def add(
        self,
        stage: str,
        name: str,
        result: dict | None,
        needs: str = "",
        params: dict | None = None,
        tables: dict[str, list[dict]] | None = None,
        **labels: Any,
    ) -> str:
        """Add a run, unfinished if `result` is None; return its name."""
        run = f"mine/{stage}/{name}"
        put(self.runs / run, result, **(tables or {}))
        if params is not None:
            write_atomic(self.runs / run / "params.yaml", yaml.safe_dump(params))
        self.rows.append({"run": run, "stage": stage, "needs": needs, **labels})
        write_atomic(
            self.runs / "mine" / "runs.csv", pd.DataFrame(self.rows, dtype=object).to_csv(index=False).encode()
        )
        return run
