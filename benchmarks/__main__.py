"""`python -m benchmarks [--quick]`: time hdarts against a plain version of itself.

Prints a table and draws a figure: `table.csv`, `machine.csv`, `growth.csv`, `growth.png` and `growth.svg` in
`results/bench/` (`--out`). Takes under 20 minutes on 2 CPU cores; `--quick` takes about one, at small sizes, and writes
nothing unless `--out` is given. `--device cuda` times the same on a GPU (not yet done).
"""

import argparse
import platform
from dataclasses import replace
from datetime import date
from pathlib import Path

import pandas as pd
import torch

from benchmarks.growth import draw, growth, slopes
from benchmarks.machine import distance
from benchmarks.measure import alone, alternating
from benchmarks.setting import Setting
from benchmarks.steps import OTHERS, OUTPUT_LAYER, SIDES, STEPS
from benchmarks.training import TRAINING_STEP
from hdarts.space import NASBENCH201

OUT = Path(__file__).parent.parent / "results" / "bench"
MEMORY = (
    "weight step",
    "second-order alpha step",
    "hyperDARTS-1 iteration",
    "hyperDARTS-2 iteration",
    OUTPUT_LAYER,
    TRAINING_STEP,
)


def table(cases: list[tuple[str, Setting]], rounds: int, threads: int) -> pd.DataFrame:
    """Return one row per case: seconds and peak memory of both sides, and their ratios."""
    rows = []
    for name, setting in cases:
        more = 3 if setting.space == NASBENCH201.name else 1  # short steps vary more
        plain, ours = alternating(name, setting, rounds * more)
        row = {
            "space": setting.space,
            "step": name,
            "batch": setting.batch,
            "plain_s": plain,
            "ours_s": ours,
            "faster": plain / ours,
        }
        if name in MEMORY:
            peak = [alone(side, name, setting, threads, rounds=1)["memory"] for side in SIDES]
            row |= {"plain_MiB": peak[0], "ours_MiB": peak[1], "memory": peak[1] / peak[0]}
        rows.append(row)
        print(" | ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    setting = Setting(8, 4, 16, 16, options.device) if options.quick else Setting(device=options.device)
    large = replace(setting, batch=64)
    other = replace(setting, space=NASBENCH201.name, cells=1 if options.quick else 2)
    cases = [(name, of) for of in (setting, other) for name in STEPS]
    if not options.quick:
        cases += [("weight step", large), ("weight step", replace(other, batch=64))]
        cases += [(name, large) for name in OTHERS]
    where = torch.cuda.get_device_name() if options.device == "cuda" else platform.machine()
    machine = f"{where}, {options.threads} threads, torch {torch.__version__}, {date.today()}"
    print(f"{setting}, {machine}: seconds of a step, plain and ours")
    found = table(cases, rounds=3 if options.quick else 5, threads=options.threads)
    print("\n" + found.round(3).to_string(index=False, na_rep=""))
    far = distance(setting, float(found["ours_s"].iloc[0]))
    print("\n" + ", ".join(f"{name} {value:.3g}" for name, value in far.items()))
    out = options.out or (None if options.quick else OUT)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    found.assign(machine=machine).to_csv(out / "table.csv", index=False)
    pd.DataFrame([far]).assign(machine=machine).to_csv(out / "machine.csv", index=False)
    grown = growth(options.threads, options.device)
    grown.to_csv(out / "growth.csv", index=False)
    figure = draw(grown, machine)
    for suffix in ("png", "svg"):
        figure.savefig(out / f"growth.{suffix}", dpi=200)
    print("\nslope of log(cost) over log(size):\n" + slopes(grown).round(2).to_string())


if __name__ == "__main__":
    main()
