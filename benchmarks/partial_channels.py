"""`python -m benchmarks.partial_channels [K ...]`: a weight step with partial channels, compared with all channels.

Median seconds of steps that alternate in this process: 16 channels, batches of 64, 8 cells of DARTS, 2 cells in each
stage of NAS-Bench-201. Takes a minute with one thread.
"""

import argparse
import statistics
from dataclasses import replace

import pandas as pd
import torch

from benchmarks.measure import seconds
from benchmarks.setting import Setting
from benchmarks.steps import ours
from hdarts.space import DARTS, NASBENCH201


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.partial_channels", description=__doc__)
    parser.add_argument("partial_channels", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for space, cells in ((DARTS.name, 8), (NASBENCH201.name, 2)):
        whole = Setting(cells=cells, batch=64, space=space)
        steps = {k: ours("weight step", replace(whole, partial_channels=k)) for k in (1, *options.partial_channels)}
        times = [[seconds(step) for step in steps.values()] for _ in range(options.rounds + 1)][1:]
        found = dict(zip(steps, map(statistics.median, zip(*times, strict=True)), strict=True))
        rows += [{"space": space, "K": k, "seconds": took, "faster": found[1] / took} for k, took in found.items()]
    print(pd.DataFrame(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
