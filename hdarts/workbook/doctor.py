"""`hdarts doctor`: what hdarts finds on this machine."""

import os
from pathlib import Path

import psutil
import torch

from hdarts.data import data_folders
from hdarts.data.nasbench201_table import FILE
from hdarts.kernels import bindings
from hdarts.kernels.compiler import cache_folder
from hdarts.runs.limits import cores, memory_limit
from hdarts.runs.paths import runs_folder
from hdarts.runs.provenance import provenance
from hdarts.workbook.study.probe import free_memory


def findings() -> dict[str, str]:
    """Return what was found, by topic; compiles the kernels that are not in the cache yet, which takes seconds."""
    found, memory = provenance(), psutil.virtual_memory()
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return {
        "versions": f"{packages}; Python {found['python']}; git {found['git'] or 'unknown'}",
        "machine": f"{found['machine']['system']}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": f"{torch.get_num_threads()} of torch, {cores()} cores, OMP_NUM_THREADS "
        f"{os.environ.get('OMP_NUM_THREADS', 'not set')}",
        "memory": f"{memory.total / 2**30:.1f} GiB, {free_memory() / 2**30:.1f} GiB available{_limit()}",
        "GPU": _gpus(),
        "kernels": _kernels(),
        "kernel cache": _folder(cache_folder(), "*.so", "libraries"),
        **{f"data folder {number}": _data(path) for number, path in enumerate(data_folders(""), 1)},
        "runs folder": _folder(runs_folder(), "*", "studies"),
    }


def _limit() -> str:
    limit = memory_limit()
    return f"; this container or job may use {limit[0] / 2**30:.1f} GiB" if limit else ""


def _gpus() -> str:
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in gpus) or "none that torch can use"


def _kernels() -> str:
    """Load every kernel once, in single precision."""
    for file in sorted(Path(bindings.__file__).parent.glob("*.c")):
        bindings.load_kernel(file.stem, 16, torch.zeros(1))
    used = bindings.kernels_used()
    if "fault" in used:
        return f"PyTorch computes in their place, 2 to 3 times slower: {used['fault']}"
    threads = "threads of OpenMP" if used["openmp"] else bindings.ONE_THREAD
    return f"{', '.join(used['compiled'])} lanes; {used['compiler']}; {used['flags']}; {threads}"


def _folder(path: Path, pattern: str, what: str) -> str:
    if not path.is_dir():
        return f"{path}: not there yet"
    return f"{path}: {len(list(path.glob(pattern)))} {what}{'' if os.access(path, os.W_OK) else ', cannot be written'}"


def _data(path: Path) -> str:
    names = sorted(entry.name for entry in path.iterdir() if entry.name[0] != ".") if path.is_dir() else []
    table = "with" if (path / "nasbench201" / FILE).is_file() else "without"
    return f"{path}: {', '.join(names)}; {table} the table of NAS-Bench-201" if names else f"{path}: no data"
