"""`python -m benchmarks.less`: weight steps that compute less, compared with one that computes everything.

Operations work on one of K groups of channels (PC-DARTS), or each edge has one operation, drawn anew in each step
(GDAS), or few (P-DARTS). Median seconds of steps that alternate in this process, and the peak memory of each in a
separate one; 16 channels, 8 cells of DARTS, 5 cells in each stage of NAS-Bench-201 (1 for images of
16x16 pixels). Takes 3 minutes with one thread.
"""

import argparse
import statistics
from dataclasses import replace

import pandas as pd
import torch

from benchmarks.measure import alone, seconds
from benchmarks.setting import Setting
from benchmarks.steps import ours
from hdarts.space import NASBENCH201

WHOLE = [
    Setting(),
    Setting(batch=64),
    Setting(cells=5, batch=64, space=NASBENCH201.name),
    Setting(cells=1, batch=64, size=16, space=NASBENCH201.name),
]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.less", description=__doc__)
    parser.add_argument("--partial_channels", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--operations", type=int, nargs="*", default=[3, 1], help="per edge")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for whole in WHOLE:
        less = [replace(whole, partial_channels=k) for k in options.partial_channels]
        less += [replace(whole, operations=count) for count in options.operations]
        steps = {setting: ours("weight step", setting) for setting in (whole, *less)}
        times = [[seconds(step) for step in steps.values()] for _ in range(options.rounds + 1)][1:]
        for setting, took in zip(steps, map(statistics.median, zip(*times, strict=True)), strict=True):
            row = {"space": setting.space, "batch": setting.batch, "size": setting.size, "K": setting.partial_channels}
            row |= {"operations": setting.operations or len(setting.of.operations), "seconds": took}
            rows.append(row | {"MiB": alone("ours", "weight step", setting, options.threads)["memory"]})
    found = pd.DataFrame(rows)
    first = found.groupby(["space", "batch", "size"])["seconds"].transform("first")
    print(found.assign(faster=first / found["seconds"], space=found["space"]).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
