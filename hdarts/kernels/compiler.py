"""C files of this package, compiled on first use and cached. Without a C compiler everything runs in PyTorch.

Libraries are cached in `$HDARTS_CACHE` (default: `hdarts` in the user's cache folder) under a hash of all they depend
on: source and headers, definitions, compiler and processor. `HDARTS_COMPILED=0` turns compilation off.
"""

import contextlib
import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# no -ffast-math: nan and infinity have to propagate. No -l: torch has loaded an OpenMP library.
FLAGS = ["-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fopenmp", "-fPIC", "-Wno-psabi"]


def cache_folder() -> Path:
    """Return the folder of compiled libraries."""
    if folder := os.environ.get("HDARTS_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hdarts"


def compiler() -> str | None:
    """Return the path of the C compiler (`$CC`, else `cc`), or None if there is none or it is turned off."""
    return None if os.environ.get("HDARTS_COMPILED") == "0" else shutil.which(os.environ.get("CC", "cc"))


@cache
def library(source: Path, **definitions: str) -> ctypes.CDLL | None:
    """Return a C file compiled with `-Dname=value`, or None where it cannot be compiled or loaded."""
    cc = compiler()
    if cc is None:
        return None
    command = [cc, *FLAGS, *(f"-D{name}={value}" for name, value in sorted(definitions.items()))]
    try:
        target = cache_folder() / f"{source.stem}-{_digest(source, command)}.so"
        with contextlib.suppress(OSError):  # missing or damaged: compile it
            return ctypes.CDLL(str(target), mode=os.RTLD_NOW)
        _build([*command, "-c", str(source)], target)
        return ctypes.CDLL(str(target), mode=os.RTLD_NOW)
    except (OSError, subprocess.SubprocessError):
        return None


def _digest(source: Path, command: list[str]) -> str:
    version = subprocess.run([command[0], "--version"], capture_output=True, timeout=60, check=True).stdout
    processor = platform.machine() + platform.processor()
    if (described := Path("/proc/cpuinfo")).is_file():
        lines = described.read_text(errors="replace").splitlines()
        processor += "".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model"))}))
    sources = [source, *sorted(source.parent.glob("*.h"))]
    parts = [*(path.read_bytes() for path in sources), " ".join(command).encode(), version, processor.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _build(command: list[str], target: Path) -> None:
    """Compile next to the target and rename: another process sees the whole library or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        compiled, linked = Path(folder) / "compiled.o", Path(folder) / "linked.so"
        subprocess.run([*command, "-o", str(compiled)], capture_output=True, timeout=300, check=True)
        # linked without -fopenmp: a second OpenMP library would compete with torch's for the cores
        subprocess.run(
            [command[0], "-shared", "-o", str(linked), str(compiled)], capture_output=True, timeout=300, check=True
        )
        linked.replace(target)
