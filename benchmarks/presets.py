"""`python -m benchmarks.presets`: peak memory of a step for every preset of a search, at its sizes.

For images like CIFAR-10's. Each is measured in a separate process for at most `--seconds`, with growing batches; what a
preset's own batch would take is extrapolated linearly from the last two. Of a search in stages it is the costliest
stage. Writes results/bench/presets.csv.
"""

import argparse
from pathlib import Path

import pandas as pd

from hdarts.data import DatasetInfo
from hdarts.params import SearchParams, read_yaml
from hdarts.runs.paths import with_defaults
from hdarts.search.stages import stages_of
from hdarts.workbook.study.probe import Probe, StepCost, measure_step

ROOT = Path(__file__).parent.parent
LEAST = 4  # images; from fewer, nothing is extrapolated
CIFAR = DatasetInfo(25_000, 25_000, (3, 32, 32), 10)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.presets", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per preset")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    rows = []
    for file in sorted((ROOT / "params" / "search").glob("*.yaml")):
        params = with_defaults(SearchParams, read_yaml(file))
        if params.method != "random":
            rows.append(row(file.stem, params, options.threads, options.seconds))
            print(*rows[-1].values(), flush=True)
    found = pd.DataFrame(rows).round({"GiB": 2})
    found.to_csv(ROOT / "results" / "bench" / "presets.csv", index=False)
    print(found.to_string(index=False))


def row(name: str, params: SearchParams, threads: int, seconds: float) -> dict[str, object]:
    """Return the row of one preset."""
    stage = max(stages_of(params), key=lambda stage: stage.layers)
    sizes = {"preset": name, "channels": params.channels, "cells": stage.layers, "batch": params.batch_size}
    cost = measure_step(Probe(params, CIFAR, None, threads), seconds)
    if isinstance(cost, StepCost) and cost.batch < LEAST:
        cost = f"only batches of {cost.batch} in {seconds:.0f} s"
    if not isinstance(cost, StepCost):
        return {**sizes, "not measured": cost}
    return {**sizes, "GiB": cost.memory / 1024, "measured at batch": cost.batch}


if __name__ == "__main__":
    main()
