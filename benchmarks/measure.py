"""How long a step takes and how much memory: alternately in one process, or alone in a process of its own."""

import json
import resource
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import torch

from benchmarks.setting import Setting, Step
from benchmarks.steps import SIDES, step


def seconds(function: Step) -> float:
    """Time of one call."""
    _wait()
    start = perf_counter()
    function()
    _wait()
    return perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternating(name: str, setting: Setting, rounds: int) -> tuple[float, float]:
    """Median seconds of the plain step and of ours, taken in turn in this process, after one of each to warm up."""
    steps = [step(side, name, setting) for side in SIDES]
    for one in steps:
        one()
    times = [[seconds(one) for one in steps] for _ in range(rounds)]
    plain, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return plain, ours


def alone(side: str, name: str, setting: Setting, threads: int, rounds: int = 2) -> dict[str, float]:
    """Least seconds of a step and peak memory (MiB, beyond the libraries) in a process of its own."""
    request = json.dumps({"side": side, "name": name, "threads": threads, "rounds": rounds, **asdict(setting)})
    command = [sys.executable, "-m", "benchmarks.measure", request]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def answer(request: dict) -> dict[str, float]:
    """What the process of `alone` does."""
    side, name, threads, rounds = (request.pop(key) for key in ("side", "name", "threads", "rounds"))
    torch.set_num_threads(threads)
    libraries = peak_memory()
    one = step(side, name, Setting(**request))
    one()
    least = min(seconds(one) for _ in range(rounds))
    on_gpu = request["device"] == "cuda"
    memory = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory() - libraries
    return {"seconds": least, "memory": memory}


def peak_memory() -> float:
    """Most memory (MiB) this process ever held. Linux's ru_maxrss starts with that of the parent, VmHWM does not."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(sys.argv[1]))))
