"""A search and an evaluation of seconds, each in a separate process, to be killed, stopped and compared."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hdarts.data import Batches
from hdarts.params import MODELS, Parameters, SearchParams
from hdarts.runs import checkpoint
from hdarts.runs.paths import with_defaults
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.train import train
from helpers import ROOT

IMAGES = {"data": "generated", "data_folder": "", "image_size": 0, "crop_padding": 1, "flip": False, "cutout": 0}
MACHINE = {"device": "cpu", "threads": 1, "run": "run"}
RECORDS = {"checkpoint_epochs": 1, "checkpoint_minutes": 1e-9, "keep_epochs": [1], "keep_checkpoint": True}
SGD = {"epochs": 3, "batch_size": 16, "learning_rate": 0.05, "learning_rate_min": 0.0, "momentum": 0.9}
SMALL = {**MACHINE, **IMAGES, **RECORDS, **SGD, "weight_decay": 3e-4, "clip": 5.0, "channels": 2, "layers": 3}

SEARCH: dict[str, Any] = {
    "notebook": "03_search",
    **SMALL,
    "limit": 100,
    "validation_fraction": 0.3,  # 5 steps: the last training batch is short, and the validation images are used 3 times
    "hypernetwork": "linear",
    "noise": 0.1,
    "log_every": 1,
}
EVALUATION: dict[str, Any] = {"notebook": "06_evaluate", **SMALL, "limit": 80, "test_limit": 20}


def params(kind: dict[str, Any]) -> Parameters:
    return with_defaults(MODELS[kind["notebook"]], {k: v for k, v in kind.items() if k != "notebook"})


def computed(kind: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Compute the run `kind` below $HDARTS_RUNS, or the rest of it; yield its rows."""
    wanted = params(kind)
    run = Run.open(wanted)
    return search(wanted, run) if isinstance(wanted, SearchParams) else train(wanted, run)  # type: ignore[arg-type]


def signal_at(patch: pytest.MonkeyPatch, epoch: int, step: int, number: int, times: int = 1) -> None:
    """Send this process a signal in that step of that epoch (the first epoch is 1, its first step 0)."""
    whole = Batches.epoch

    def with_signal(self, seed, purpose, at, start=0, *more, **named):
        for count, batch in enumerate(whole(self, seed, purpose, at, start, *more, **named), start):
            if (at + 1, count) == (epoch, step) and purpose != "outer":
                for _ in range(times):
                    os.kill(os.getpid(), number)
            yield batch

    patch.setattr(Batches, "epoch", with_signal)


PROGRAM = """
import json, sys
from helpers.small_runs import computed
from hdarts.errors import EXIT_CODES
print("started", flush=True)
try:
    for row in computed(json.loads(sys.argv[1])):
        print("epoch", row["epoch"], flush=True)
except BaseException as error:
    print(error, file=sys.stderr)
    sys.exit(EXIT_CODES.get(type(error).__name__, 1))
"""


def environment(runs: Path, **more: str) -> dict[str, str]:
    here = ROOT / "tests"
    around = {"HDARTS_RUNS": str(runs), "HDARTS_PROGRESS": "log", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **around, "PYTHONPATH": f"{here}:{here.parent}", **more}


def program(kind: dict[str, Any], runs: Path, **more: str) -> subprocess.Popen[str]:
    """Start to compute the run `kind` in a separate process, with `more` in its environment."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(kind)],
        env=environment(runs, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


CLOCKED = {"timings.csv", "provenance.json", "log.txt", "notebook.ipynb", "notebook.html", "report.html"}
LEFT = {"checkpoint.previous.pt"}  # depends on when it was written


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder that depend neither on the clock nor on interruptions."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    skipped = CLOCKED | LEFT
    named = {str(path.relative_to(folder)): path for path in files if path.name not in skipped}
    return {name: state(path) if path.suffix == ".pt" else path.read_bytes() for name, path in named.items()}


def state(path: Path) -> bytes:
    """Return the content of a checkpoint as bytes; the file also depends on which of its strings are identical."""

    def flat(value: Any) -> bytes:
        if isinstance(value, torch.Tensor):
            return f"{value.dtype} {tuple(value.shape)} ".encode() + value.contiguous().numpy().tobytes()
        if isinstance(value, dict):
            return b"{" + b",".join(flat(key) + b":" + flat(item) for key, item in value.items()) + b"}"
        if isinstance(value, list | tuple):
            return b"[" + b",".join(map(flat, value)) + b"]"
        return repr(value).encode()

    return flat(checkpoint.read(path))


def differences(one: Path, other: Path) -> list[str]:
    """Compare two runs folders byte for byte; return the names of files that differ."""
    first, second = contents(one), contents(other)
    assert len(first) >= 6
    return [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
