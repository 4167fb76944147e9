"""Provenance of a run: package versions, machine, git commit, time."""

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from hdarts.runs.paths import checkout


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
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "git": _git_state(),
    }


def _git_state() -> str | None:
    root = checkout()
    if root is None:
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
