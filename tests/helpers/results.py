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


NOTEBOOKS = {
    "search": "03_search",
    "hypergradients": "04_hypergradients",
    "select": "05_select",
    "evaluate": "06_evaluate",
    "analysis": "07_analysis",
}
READS = {"04_hypergradients": "search", "06_evaluate": "genotype"}  # the parameter that names the run it reads


class MadeUpStudy:
    """A study in the folder `mine` whose runs are written one by one."""

    def __init__(self, runs: Path) -> None:
        self.runs, self.rows, self.stages = runs, [], {}

    def add(
        self,
        stage: str,
        name: str,
        result: dict | None,
        needs: str = "",
        params: dict | None = None,
        tables: dict[str, list[dict]] | None = None,
        notebook: str = "",
        **labels: Any,
    ) -> str:
        """Add a run, unfinished if `result` is None; return its name. The notebook is that of the stage's name."""
        run, notebook = f"mine/{stage}/{name}", notebook or NOTEBOOKS[stage]
        put(self.runs / run, result, **(tables or {}))
        reads = {READS[notebook]: needs} if needs and notebook in READS else {}
        if params := {**reads, **(params or {})}:
            write_atomic(self.runs / run / "params.yaml", yaml.safe_dump(params))
        self.stages[stage] = {"notebook": notebook}
        write_atomic(self.runs / "mine" / "study.yaml", yaml.safe_dump({"study": "mine", "stages": self.stages}))
        self.rows.append({"run": run, "stage": stage, "needs": needs, **labels})
        write_atomic(
            self.runs / "mine" / "runs.csv", pd.DataFrame(self.rows, dtype=object).to_csv(index=False).encode()
        )
        return run
