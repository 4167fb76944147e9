"""Time and memory of a step: alternating with the other side in one process, or alone in a separate process."""

import json
import statistics
import subprocess
import sys
from dataclasses import asdict
from time import perf_counter

import torch

from benchmarks.setting import Setting, Step
from benchmarks.steps import SIDES, step
from hdarts.runs.memory import peak_memory


def seconds(function: Step) -> float:
    """Return the seconds of one call."""
    _wait()
    start = perf_counter()
    function()
    _wait()
    return perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def alternating(name: str, setting: Setting, rounds: int) -> tuple[float, float]:
    """Return median seconds of the plain step and of ours, alternating in this process, after one warm-up each."""
    steps = [step(side, name, setting) for side in SIDES]
    for one in steps:
        one()
    times = [[seconds(one) for one in steps] for _ in range(rounds)]
    plain, ours = (statistics.median(column) for column in zip(*times, strict=True))
    return plain, ours


def alone(side: str, name: str, setting: Setting, threads: int, rounds: int = 2) -> dict[str, float]:
    """Return the least seconds of a step and its peak memory (MiB, without libraries), in a separate process.

    With no `rounds` the only step is the one that warms up.
    """
    request = json.dumps({"side": side, "name": name, "threads": threads, "rounds": rounds, **asdict(setting)})
    command = [sys.executable, "-m", "benchmarks.measure", request]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def answer(request: dict) -> dict[str, float]:
    """Measure in the separate process of `alone`."""
    side, name, threads, rounds = (request.pop(key) for key in ("side", "name", "threads", "rounds"))
    torch.set_num_threads(threads)
    libraries = peak_memory("cpu")
    one = step(side, name, Setting(**request))
    first = seconds(one)  # warms up
    least = min((seconds(one) for _ in range(rounds)), default=first)
    device = request["device"]
    memory = peak_memory(device) - (0 if device == "cuda" else libraries)
    return {"seconds": least, "memory": memory}


if __name__ == "__main__":
    print(json.dumps(answer(json.loads(sys.argv[1]))))
