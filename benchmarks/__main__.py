"""`python -m benchmarks [--quick]`: time hdarts against a plain version of itself.

Prints a table of ratios, with the machine's rates of a matrix product and of a copy beside them, and draws a figure:
`table.csv`, `growth.csv`, `growth.png` and `growth.svg` in `results/bench/` (`--out`) are of the last machine, and
`machines.csv` has one row per machine. Takes about 10 minutes on 2 CPU cores. `--quick` takes about one, at small
sizes, without the figure, and writes nothing unless `--out` is given. `--device cuda` times the same on a GPU (not yet
done).
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
            peak = [alone(side, name, setting, threads, rounds=0)["memory"] for side in SIDES]
            row |= {"plain_MiB": peak[0], "ours_MiB": peak[1], "memory": peak[1] / peak[0]}
        rows.append(row)
        print(" | ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)
    return pd.DataFrame(rows)


def ratios(found: pd.DataFrame) -> pd.Series:
    """Return how many times as fast as the plain version each step is, by space, step and batch."""
    names = found["space"] + ", " + found["step"] + ", batch " + found["batch"].astype(str)
    return pd.Series(found["faster"].to_numpy(), index=names)


def with_row(file: Path, row: dict[str, object]) -> pd.DataFrame:
    """Return the table in `file` with the row of this machine and number of threads, in place of an earlier one."""
    known = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["machine", "threads"])
    others = [one for one in known.to_dict("records") if any(one[key] != row[key] for key in ("machine", "threads"))]
    return pd.DataFrame([*others, row])


def processor() -> str:
    """Return the name of the processor and its vector instructions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = (names or [platform.processor() or platform.machine()])[0]
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


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
    where = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    machine = f"{where}, {options.threads} threads, torch {torch.__version__}, {date.today()}"
    print(f"{setting}, {machine}: seconds of a step, plain and ours")
    found = table(cases, rounds=3, threads=options.threads)
    far = distance(setting, float(found["ours_s"].iloc[0]))
    faster = ratios(found)
    print("\ntimes as fast as the plain version\n" + faster.round(2).to_string())
    print("\n" + ", ".join(f"{name} {value:.3g}" for name, value in far.items()))
    out = options.out or (None if options.quick else OUT)
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    found.assign(machine=machine).to_csv(out / "table.csv", index=False)
    about = {"machine": where, "threads": options.threads, "torch": torch.__version__, "date": str(date.today())}
    with_row(out / "machines.csv", {**about, **far, **faster}).round(3).to_csv(out / "machines.csv", index=False)
    if options.quick:
        return
    grown = growth(options.threads, options.device)
    grown.to_csv(out / "growth.csv", index=False)
    figure = draw(grown, machine)
    for suffix in ("png", "svg"):
        figure.savefig(out / f"growth.{suffix}", dpi=200)
    print("\nslope of log(cost) over log(size):\n" + slopes(grown).round(2).to_string())


if __name__ == "__main__":
    main()
