"""`python -m benchmarks.engines [RUNS ...]`: the overhead of a study per run, for both engines.

The runs are trivial: each only writes the files of a finished run. What remains is the work of hdarts: it expands the
study, reads states, hands out runs, takes them back and reads the states again. Prints a table of milliseconds per run,
with `--jobs` local threads and with as many workers of a Dask scheduler on this host.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pandas as pd

from hdarts.runs.atomic import write_atomic
from hdarts.runs.paths import checkout
from hdarts.workbook.cluster import Cluster, connect
from hdarts.workbook.cluster.engine import Workers
from hdarts.workbook.study import Plan, PlannedRun, plan_study, record_plan, runner

T = TypeVar("T")
STUDY = """
study: {name}
title: Runs that do nothing
stages: {{search: {{notebook: 03_search, parameters: {{method: random}}, matrix: {{search_seed: {seeds}}}}}}}
"""


def trivial(run: PlannedRun) -> runner.Outcome:
    """Write the result, which makes a run done."""
    write_atomic(run.folder / "result.json", "{}")
    return runner.Outcome("done", 0.0)


def locally(plan: Plan, jobs: int) -> None:
    """Run all with the local engine."""
    with ThreadPoolExecutor(jobs) as executor:
        for _ in runner.run_all(plan.runs, executor, trivial, lambda: None):
            pass


@contextmanager
def workers(jobs: int) -> Generator[Callable[[Plan, int], None], None, None]:
    """Yield the Dask engine, after starting its workers."""
    settings = Cluster(kind="local", workers=jobs)
    with tempfile.TemporaryDirectory() as logs, connect.connected(settings, Path(logs)) as client:
        executor = Workers(client, connect.offers(client, settings))

        def there(plan: Plan, jobs: int) -> None:
            for _ in runner.run_all(plan.runs, executor, trivial, lambda: None):
                pass

        yield there


def measure(folder: Path, name: str, count: int, engine: Callable[[Plan, int], None], jobs: int) -> dict[str, float]:
    """Return milliseconds per run for each part of the work on a study of `count` trivial runs."""
    path = folder / f"{name}.yaml"
    path.write_text(STUDY.format(name=name, seeds=list(range(count))))
    seconds, plan = timed(lambda: plan_study(path))
    parts = {"expand": seconds, "record": timed(lambda: record_plan(plan))[0]}
    parts["run"] = timed(lambda: engine(plan, jobs))[0]
    parts["states"], states = timed(lambda: [runner.outcome_of(run.folder).state for run in plan.runs])
    assert states == ["done"] * count
    return {part: 1000 * each / count for part, each in parts.items()}


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds that a call takes, and its value."""
    began = time.perf_counter()
    value = function()
    return time.perf_counter() - began, value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument("runs", type=int, nargs="*", default=[100, 2000])
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    root, rows = checkout(), []
    assert root is not None, "benchmarks are run in a checkout"
    with tempfile.TemporaryDirectory(prefix="hdarts-") as folder:
        os.environ["HDARTS_RUNS"] = f"{folder}/runs"  # also for the workers, which start now
        (Path(folder) / "notebooks").symlink_to(root / "notebooks")
        with workers(options.jobs) as there:
            for count in options.runs:
                for name, engine in {"local": locally, "dask": there}.items():
                    took = measure(Path(folder), f"{name}-{count}", count, engine, options.jobs)
                    rows.append({"engine": name, "runs": count, **took})
                    print(rows[-1], flush=True)
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
