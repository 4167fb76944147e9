"""Provenance of a run: package versions, machine, git commit and time of each of its starts."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic
from hdarts.runs.limits import cores
from hdarts.runs.paths import checkout

Start = dict[str, Any]
FILE = "provenance.json"


def provenance() -> dict[str, Any]:
    """Return package versions, processor, operating system, git commit and time."""
    packages = {}
    for package in ("hdarts", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "papermill"):
        with contextlib.suppress(PackageNotFoundError):
            packages[package] = version(package)
    return {
        "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": sys.version.split()[0],
        "packages": packages,
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "usable_cores": cores(),
        },
        "git": _git_state(),
    }


def read_starts(folder: Path) -> list[Start]:
    """Return the starts of a run, oldest first, from its `provenance.json`; none if there is no such file.

    Earlier versions kept the last start only. Raises `ParameterError` if the file is damaged.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        starts = content.get("starts", [content])
        if starts and all(isinstance(start, dict) for start in starts):
            return starts
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        pass
    raise ParameterError(f"{folder / FILE}: cannot be read as the starts of a run; restore it, or remove the folder")


def write_starts(folder: Path, starts: Sequence[Start]) -> None:
    """Write the starts of a run to its `provenance.json`."""
    write_atomic(folder / FILE, json.dumps({"starts": starts}, indent=2, default=str) + "\n")


def last_images(folder: Path) -> dict[str, Any]:
    """Return what the last start of a run that read images recorded of them (`Splits.summary`); {} if none did."""
    images = (start["data"] for start in reversed(read_starts(folder)) if isinstance(start.get("data"), dict))
    return next(images, {})


def refuse_other_images(folder: Path, data: Mapping[str, Any]) -> None:
    """Raise `ParameterError` if the last start of a run that read images read others than `data` describes."""
    then, now = last_images(folder).get("digest"), data.get("digest")
    if then and then != now:
        advice = "restore them, or remove the folder to start this run again from the beginning"
        raise ParameterError(f"{folder}: its images changed: SHA-256 {then} when it began, {now} now; {advice}")


def _git_state() -> str | None:
    root = checkout()
    if root is None:
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
