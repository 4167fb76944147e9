"""Cores and memory of a container: control groups of both versions, with and without limits."""

from pathlib import Path

import pytest

from hdarts.runs import limits

GIB = 2**30


def host(root: Path, groups: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the limits be read below `root`, on a host of 64 cores."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    groups_of = limits._groups
    monkeypatch.setattr(limits, "_groups", lambda controller: groups_of(controller, root))
    monkeypatch.setattr(limits.os, "sched_getaffinity", lambda _: set(range(64)))


V2, V1 = "0::/jobs/one\n", "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n2:cpuset:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores", "memory"),
    [
        (V2, {}, 64, None),
        (
            V2,
            {"jobs/one/cpu.max": "max 100000", "jobs/memory.max": "max", "jobs/memory.current": "5"},
            64,
            None,
        ),
        (V2, {"jobs/one/cpu.max": "250000 100000\n", "jobs/cpu.max": "400000 100000\n"}, 2, None),
        (V2, {"jobs/one/cpu.max": "800000 100000\n", "jobs/cpu.max": "400000 100000\n"}, 4, None),
        (V2, {"cpu.max": "50000 100000\n"}, 1, None),
        (
            V2,
            {"jobs/one/memory.max": f"{4 * GIB}", "jobs/one/memory.current": f"{3 * GIB}"}
            | {"jobs/one/memory.stat": f"anon 5\ninactive_file {GIB}\n"},
            64,
            (4 * GIB, 2 * GIB),
        ),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 64, None),
        (V1, {"cpu/docker/x/cpu.cfs_quota_us": "300000\n", "cpu/docker/x/cpu.cfs_period_us": "100000\n"}, 3, None),
        (
            V1,
            {"memory/memory.limit_in_bytes": f"{2 * GIB}\n", "memory/memory.usage_in_bytes": f"{GIB}\n"},
            64,
            (2 * GIB, GIB),
        ),
        (V1, {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n", "memory/memory.usage_in_bytes": "1\n"}, 64, None),
    ],
)
def test_the_smallest_limit_of_all_groups_counts(tmp_path: Path, monkeypatch, groups, files, cores, memory) -> None:
    host(tmp_path, groups, {f"sys/fs/cgroup/{name}": text for name, text in files.items()}, monkeypatch)
    assert (limits.cores(), limits.memory_limit()) == (cores, memory)


def test_without_control_groups_and_affinity_there_is_the_host(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "_groups", lambda _: iter([tmp_path]))
    monkeypatch.delattr(limits.os, "sched_getaffinity")
    monkeypatch.setattr(limits.os, "cpu_count", lambda: None)
    assert (limits.cores(), limits.memory_limit()) == (1, None)
