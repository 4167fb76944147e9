"""The processor cores and the memory that this process may use: in a container, less than the host has.

Linux limits them by control groups: of version 2 (`cpu.max`, `memory.max`) or 1 (`cpu.cfs_quota_us`,
`memory.limit_in_bytes`). The limit of each group above applies too.
"""

import os
from collections.abc import Iterator
from pathlib import Path


def cores() -> int:
    """Return the number of cores this process may use: those of its affinity, and whole ones of its quota."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _groups("cpu") if (quota := _quota(folder))]
    return max(1, int(min([mine, *quotas])))


def memory_limit() -> tuple[int, int] | None:
    """Return limit and use of memory, in bytes, of the group with the least left; None if there is no limit."""
    limits = [limit for folder in _groups("memory") if (limit := _memory(folder))]
    return min(limits, key=lambda limit: limit[0] - limit[1], default=None)


def _groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the folders of this process's control groups, the innermost first, for both versions."""
    for line in _lines(root / "proc/self/cgroup"):
        _, names, path = line.split(":", 2)
        mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"] if not names else [f"sys/fs/cgroup/{names}"]
        if controller in names.split(","):
            mounts.append(f"sys/fs/cgroup/{controller}")
        elif names:
            continue
        for mount in mounts:
            inner = Path(path.lstrip("/"))
            for part in (inner, *inner.parents):  # a container may see only the outermost
                yield root / mount / part


def _quota(folder: Path) -> float | None:
    """Return the cores of a group, None if it has no limit."""
    words = " ".join(_lines(folder / "cpu.max")).split()
    words = words or [*_lines(folder / "cpu.cfs_quota_us"), *_lines(folder / "cpu.cfs_period_us")]
    numbers = [int(word) for word in words if word.isdigit()]  # not max and not -1
    return numbers[0] / numbers[1] if len(numbers) == 2 and all(numbers) else None


def _memory(folder: Path) -> tuple[int, int] | None:
    """Return limit and use of a group, None if it has no limit; pages of files that can be dropped are not used."""
    for limit, used, dropped in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        numbers = [int(word) for name in (limit, used) for word in _lines(folder / name) if word.isdigit()]
        if len(numbers) == 2 and numbers[0] < 2**60:  # version 1 has a huge one where there is none
            files = [int(line.split()[1]) for line in _lines(folder / "memory.stat") if line.split()[0] == dropped]
            return numbers[0], max(0, numbers[1] - sum(files))
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines() if file.is_file() else []
    except (OSError, UnicodeDecodeError):
        return []
