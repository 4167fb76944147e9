"""`python -m benchmarks.gpu`: everything that only a GPU can show, in one call of at most `--seconds`.

In this order, each part writing its table as it goes, so that a part that fails or runs out of time loses nothing:

1. the tests marked `cuda` (tests.txt);
2. the machine's rates: matrix products in float32, TF32 and bfloat16, and a copy (rates.csv);
3. the phases of a search in both spaces (steps.csv): as they are launched, and replayed as a CUDA graph, in each
   precision and at growing batches; the plain version beside them in float32; peak memory, and the share of the
   matrix-product rate of the same precision;
4. a first-order search of NAS-Bench-201 at its full size, for the time that is left, in runs/ of the output folder. It
   has a checkpoint, and goes on when the command is called again with the same folder.

`--tiny` does all of it in small sizes, on any device, to see that it runs. Without CIFAR-10 in HDARTS_DATA the search
takes generated images of the same size: its speed means something then, and its cell nothing.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.measure import seconds
from benchmarks.setting import Setting
from benchmarks.steps import plain
from hdarts.data import DatasetInfo
from hdarts.errors import ParameterError, Stopped
from hdarts.params import SearchParams, read_yaml
from hdarts.runs.memory import is_out_of_memory, peak_memory
from hdarts.runs.paths import with_defaults
from hdarts.runs.run import Run
from hdarts.search import batches, load_splits, part_of, search
from hdarts.search.stages import stages_of
from hdarts.search.start import Given, start_stage
from hdarts.search.steps import phases, training_alpha
from hdarts.workbook.study.flops import flops_of_steps
from hdarts.workbook.study.probe import noise

ROOT = Path(__file__).parent.parent
SHARES = {"tests": 0.2, "steps": 0.45}  # of all seconds; the search has the rest
PRECISIONS = ("float32", "tf32", "bfloat16")
SPACES = ("darts", "nasbench201")
METHODS = ("darts-first", "darts-second", "hyperdarts-1", "hyperdarts-2")  # presets of searches
PLAIN = {  # phase of a method -> the plain step that does the same
    ("darts-first", "weight step"): "weight step",
    ("darts-first", "alpha step"): "first-order alpha step",
    ("darts-second", "alpha step"): "second-order alpha step",
}
Sizes = dict[str, Any]
Flops = dict[tuple[int, str], int]  # by stage and phase
TINY: Sizes = {"channels": 2, "size": 8, "side": 64, "images": 64, "epochs": 2, "batches": (4,)}
TINY |= {"layers": {"darts": 3, "nasbench201": 1}}
FULL: Sizes = {"channels": 16, "size": 32, "side": 8192, "images": 0, "epochs": 50, "batches": (64, 128, 256, 512)}
FULL |= {"layers": {"darts": 8, "nasbench201": 5}}


def main() -> None:
    """Measure, search and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("PyTorch finds no GPU here; --device cpu --tiny shows that the script runs")
    start, sizes, device = time.monotonic(), TINY if options.tiny else FULL, torch.device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    run_tests(options.out / "tests.txt", SHARES["tests"] * options.seconds)
    found = rates(device, sizes["side"])
    pd.DataFrame([found]).to_csv(options.out / "rates.csv", index=False)
    print(found, flush=True)
    rows = []
    for row in step_rows(device, sizes, found, start + (SHARES["tests"] + SHARES["steps"]) * options.seconds):
        rows.append(row)
        pd.DataFrame(rows).to_csv(options.out / "steps.csv", index=False)
        print(*row.values(), flush=True)
    search_until(device, sizes, options.out / "runs", start + options.seconds)


def run_tests(file: Path, limit: float) -> None:
    """Run the tests marked `cuda` and keep what pytest prints."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-rA", "tests/test_cuda.py"]
    with file.open("w") as out:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            code = f"ended after {limit:.0f} s"
    print(f"tests marked cuda: exit code {code}; see {file}", flush=True)


def set_precision(precision: str) -> None:
    """Let float32 products and convolutions be computed in TF32, or not."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def rates(device: torch.device, side: int, rounds: int = 7) -> dict[str, float]:
    """Return the best rates of matrix products (TFLOP/s) by precision, and of a copy (GB/s, read and write)."""
    found = {}
    for precision in PRECISIONS:
        set_precision(precision)
        kind = torch.bfloat16 if precision == "bfloat16" else torch.float32
        a, b = torch.randn(2, side, side, device=device).to(kind)
        best = min(seconds(partial(torch.matmul, a, b)) for _ in range(rounds))
        found[precision] = 2 * side**3 / best / 1e12
    source = torch.randn(side * side, device=device)
    target = torch.empty_like(source)
    copy = min(seconds(lambda: target.copy_(source)) for _ in range(rounds))
    return {**found, "copy": 2 * source.nbytes / copy / 1e9}


def step_rows(device: torch.device, sizes: Sizes, rate: dict[str, float], end: float) -> Iterator[dict[str, Any]]:
    """Yield one row per space, batch, method, precision and phase, small batches first, while there is time."""
    counted: dict[tuple[str, str], tuple[Flops, Flops]] = {}  # at 1 and at 2 images: counted on the CPU, so once
    for batch in sizes["batches"]:
        for space in SPACES:
            for method in METHODS:
                for precision in PRECISIONS:
                    if time.monotonic() > end:
                        print("no time is left for larger steps", flush=True)
                        return
                    changed = {"space": space, "layers": sizes["layers"][space], "channels": sizes["channels"]}
                    changed |= {"batch_size": batch, "device": str(device)}
                    preset = read_yaml(ROOT / "params" / "search" / f"{method}.yaml")
                    named = "bfloat16" if precision == "bfloat16" else "float32"
                    params = with_defaults(SearchParams, preset | changed | {"precision": named})
                    labels = {"space": space, "batch": batch, "method": method, "precision": precision}
                    if (space, method) not in counted:
                        counted[space, method] = few_flops(params, sizes["size"])
                    one, two = counted[space, method]
                    flops = {phase: one[phase] + (batch - 1) * (two[phase] - one[phase]) for phase in one}
                    try:
                        yield from (labels | row for row in rows_of(params, precision, sizes["size"], rate, flops))
                    except (RuntimeError, ParameterError) as error:
                        full = "out of memory" if is_out_of_memory(error) else " ".join(str(error).split())[:200]
                        yield labels | {"phase": full}


def few_flops(params: SearchParams, size: int) -> tuple[Flops, Flops]:
    """Return the operations of the phases at batches of 1 and of 2 images; they are linear in the batch."""
    images = DatasetInfo(2, 2, (3, size, size), 10)
    one, two = (flops_of_steps(params.model_copy(update={"batch_size": batch}), images) for batch in (1, 2))
    return one, two


def rows_of(
    params: SearchParams, precision: str, size: int, rate: dict[str, float], flops: Flops
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one setting: seconds as launched, as a graph, plain; memory (MiB); TFLOP/s and share."""
    set_precision(precision)
    device, images = torch.device(params.device), DatasetInfo(params.batch_size, params.batch_size, (3, size, size), 10)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    data = noise(images, params.batch_size, device)
    stage = stages_of(params)[0]
    problem, state = start_stage(params, stage, data, Given(device))
    state.start_epoch(params, stage)
    state.start_step(params, params.learning_rate)
    phase = phases(params, problem, state)
    inner, outer = (next(level.epoch(0, "gpu", 0)) for level in batches(params, data))
    at = training_alpha(params, state)

    def step_alpha(find: Callable[..., Any], move: Callable[..., Any]) -> None:
        move(part_of(find(inner, outer), params.part))

    for name, graphs, work in (
        ("alpha step", (phase.hypergradient, phase.alpha_step), flops[0, "hypergradient"]),
        ("weight step", (phase.weight_step,), flops[0, "weight_step"]),
    ):
        if len(graphs) == 2:
            launched = partial(step_alpha, *(graph.function for graph in graphs))
            replayed = partial(step_alpha, *graphs)
        else:
            launched, replayed = partial(graphs[0].function, inner, *at), partial(graphs[0], inner, *at)
        took = {"launched_s": best_of(launched), "graph_s": best_of(replayed, warm=4)}
        row = {"phase": name, **took, "MiB": peak_memory(str(device))}  # before the plain version takes its own
        row |= {"launches": launches(launched), "captured": all(graph.graph is not None for graph in graphs)}
        row |= {"plain_s": plain_seconds(params, precision, name, size)}
        speed = work / min(took.values()) / 1e12
        yield row | {"GFLOP": work / 1e9, "TFLOP_s": speed, "share": speed / rate[precision]}


class Launches(TorchDispatchMode):
    """A context that counts the operators that PyTorch dispatches in it, without views: about as many launches."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        self.total += not any(one.alias_info is not None and not one.alias_info.is_write for one in returns)
        return func(*args, **(kwargs or {}))


def launches(step: Callable[[], Any]) -> int:
    """Return the number of operators of a step; compiled kernels are not used inside."""
    with Launches() as counter:
        step()
    return counter.total


def best_of(step: Callable[[], Any], warm: int = 1, rounds: int = 5) -> float:
    """Return the least seconds of a step, after calls that warm it up or capture it."""
    for _ in range(warm):
        step()
    return min(seconds(step) for _ in range(rounds))


def plain_seconds(params: SearchParams, precision: str, phase: str, size: int) -> float:
    """Return the seconds of the plain version of a phase, nan where there is none."""
    name = PLAIN.get((params.method, phase), "")
    if precision == "bfloat16" or not name:
        return float("nan")
    sizes = {"channels": params.channels, "cells": params.layers, "batch": params.batch_size, "size": size}
    return best_of(plain(name, Setting(**sizes, device=params.device, space=params.space)))


def search_until(device: torch.device, sizes: Sizes, folder: Path, end: float) -> None:
    """Search NAS-Bench-201, first order, until `end`; the last checkpoint is that of the last whole epoch."""
    set_precision("tf32")
    os.environ["HDARTS_RUNS"] = str(folder.absolute())
    preset = read_yaml(ROOT / "params" / "search" / "nasbench201-official.yaml")
    changes = {"channels": sizes["channels"], "layers": sizes["layers"]["nasbench201"], "epochs": sizes["epochs"]}
    changes |= {"device": str(device), "run": "search", "batch_size": sizes["batches"][0]}
    params = with_defaults(SearchParams, preset | changes | {"data": "cifar10", "limit": sizes["images"]})
    try:
        data = load_splits(params, device)
    except ParameterError as error:
        print(f"{error}; generated images take its place", flush=True)
        generated = {"data": "generated", "limit": sizes["images"] or 50_000, "image_size": sizes["size"]}
        params = with_defaults(SearchParams, preset | changes | generated)
        data = load_splits(params, device)
    rows, began = search(params, Run.open(params), data=data), time.monotonic()
    try:
        for row in rows:
            spent = time.monotonic() - began
            print(f"epoch {row['epoch']}: {row['validation_accuracy']:.2f} %, {spent:.1f} s", flush=True)
            if time.monotonic() + spent / row["epoch"] > end:  # another epoch does not fit
                break
    except Stopped:
        print("stopped; the checkpoint is saved", flush=True)


if __name__ == "__main__":
    main()
