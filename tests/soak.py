"""The long test of faults: `make soak`, or `python tests/soak.py [SEED [PART ...]]`; prints a table of its trials.

Kills at random moments and inside writes of searches, evaluations and a study, damaged checkpoints, full disks, and
many kernels that start together. Every run is compared with an uninterrupted one, byte for byte.
"""

import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

from helpers.faults import KINDS, Tried, filled, kill_points, small_disk, to_the_end
from helpers.small_project import plan_study, write_project
from helpers.small_runs import computed, differences

from hdarts.errors import ParameterError
from hdarts.runs.checkpoint import NEWEST, PREVIOUS, DamagedCheckpoint
from hdarts.workbook.study.runner import run_one

POINTS = {"search": (12, 14), "evaluation": (10, 12), "study": (8, 10)}  # at moments, in writes


def truncated(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(1, len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    array, bit = bytearray(content), draw.randrange(8 * len(content))
    array[bit // 8] ^= 1 << bit % 8
    return bytes(array)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": truncated,
    "one bit flipped": flipped,
    "empty": lambda content, draw: b"",
}


def half_way(what: str, runs: Path) -> Path:
    """Stop a run in its third epoch and return its folder."""
    os.environ["HDARTS_RUNS"] = str(runs)
    rows = computed(KINDS[what])
    list(islice(rows, 2))
    rows.close()  # type: ignore[attr-defined]
    return runs / "run"


def ended(what: str, runs: Path) -> str:
    """Compute what is missing, in this process; return the refusal, if any."""
    os.environ["HDARTS_RUNS"] = str(runs)
    try:
        list(computed(KINDS[what]))
    except (DamagedCheckpoint, ParameterError) as error:
        return str(error)
    return ""


def damaged_files(folder: Path, each: int, draw: random.Random) -> Iterator[Tried]:
    """Damage the newest checkpoint: the previous one is used. Replace it by that of another run: refused by name."""
    for what in KINDS:
        whole, half = folder / f"{what}-whole", folder / f"{what}-half"
        ended(what, whole)
        half_way(what, half)
        for number in range(each):
            for damage, change in DAMAGES.items():
                runs = folder / f"{what}-{damage}-{number}"
                shutil.copytree(half, runs)
                path = runs / "run" / NEWEST
                path.write_bytes(change(path.read_bytes(), draw))
                refused = ended(what, runs)
                (runs / "run" / f"{NEWEST}.damaged").unlink()
                yield Tried(what, f"checkpoint {damage}", [refused] if refused else differences(whole, runs))
        runs = folder / f"{what}-exchanged"
        shutil.copytree(half, runs)
        newest, before = runs / "run" / NEWEST, runs / "run" / PREVIOUS
        newest.replace(runs / "swap")
        before.replace(newest)
        (runs / "swap").replace(before)
        refused = ended(what, runs)
        fault = "checkpoint exchanged with the previous one"
        yield Tried(what, fault, [refused] if refused else differences(whole, runs))
    for what, other in (("search", "evaluation"), ("evaluation", "search")):
        runs = folder / f"{what}-other"
        shutil.copytree(folder / f"{what}-half", runs)
        shutil.copy(folder / f"{other}-half" / "run" / NEWEST, runs / "run" / NEWEST)
        refused = ended(what, runs)
        right = [] if "other parameters" in refused else [refused]
        yield Tried(what, "checkpoint of another run, refused by name", right)
        for name in (NEWEST, PREVIOUS):
            (runs / "run" / name).write_bytes(b"")
        refused = ended(what, runs)
        yield Tried(what, "no intact checkpoint, refused", [] if "no checkpoint is" in refused else [refused])


def starts_together(folder: Path, times: int, kernels: int) -> Iterator[Tried]:
    """Start many kernels at once, repeatedly."""
    study = f"study: many\nstages: {{toy: {{notebook: 01_toy, matrix: {{seed: {list(range(kernels))}}}}}}}\n"
    path = write_project(folder, study)
    for number in range(times):
        os.environ["HDARTS_RUNS"] = str(folder / f"runs-{number}")
        runs = plan_study(path).runs
        with ThreadPoolExecutor(kernels) as executor:
            outcomes = list(executor.map(lambda run: run_one(run, folder, threads=1), runs))
        bad = [outcome.error or outcome.state for outcome in outcomes if outcome.state != "done"]
        yield Tried("study", f"{kernels} kernels started together", bad)


def full_disks(folder: Path) -> Iterator[Tried]:
    """Fill the disk during a study: at its records, its first or its second checkpoint. Then enlarge it."""
    whole = folder / "uninterrupted"
    to_the_end("study", whole)
    for size in ("100k", "1m", "4m", "30m"):
        disk = folder / size
        try:
            with small_disk(disk, size):
                unreported = filled("study", disk)
                to_the_end("study", disk)
                tried = Tried("study", "disk full, then more room", [*unreported, *differences(whole, disk)])
        except PermissionError as error:
            print(f"full disks are skipped: {error}", flush=True)
            return
        yield tried


def killed(what: str, folder: Path, draw: random.Random) -> Iterator[Tried]:
    return kill_points(what, folder, *POINTS[what], draw)


PARTS: dict[str, Callable[[Path, random.Random], Iterator[Tried]]] = {
    "damaged": lambda folder, draw: damaged_files(folder, 6, draw),
    **{what: partial(killed, what) for what in POINTS},
    "disks": lambda folder, draw: full_disks(folder),
    "together": lambda folder, draw: starts_together(folder, 5, 20),
}


def everything(folder: Path, parts: list[str], draw: random.Random) -> Iterator[Tried]:
    for part in parts:
        (folder / part).mkdir()
        with contextlib.redirect_stderr(io.StringIO()):  # progress of runs in this process
            yield from PARTS[part](folder / part, draw)


def table(all_tried: list[Tried]) -> str:
    """Return the number of trials, and of those that ended right, for each kind of fault, as Markdown."""
    kinds = Counter((tried.what, tried.fault.partition(":")[0]) for tried in all_tried)
    right = Counter((tried.what, tried.fault.partition(":")[0]) for tried in all_tried if not tried.differs)
    lines = ["| run | fault | tried | right |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {what} | {fault} | {count} | {right[what, fault]} |" for (what, fault), count in sorted(kinds.items())
    ]
    lines.append(f"| all | | {len(all_tried)} | {right.total()} |")
    return "\n".join(lines)


def main() -> None:
    """Try all faults, print the table, and exit with 1 if something was lost."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.randrange(10**6)
    parts = sys.argv[2:] or list(PARTS)
    os.environ["HDARTS_PROGRESS"] = "log"
    print(f"faults drawn with seed {seed}", flush=True)
    began, all_tried = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="hdarts-soak-") as folder:
        for tried in everything(Path(folder), parts, random.Random(seed)):
            all_tried.append(tried)
            seconds = time.monotonic() - began
            print(f"{seconds:6.0f} s  {tried.what}: {tried.fault}: {tried.differs or 'right'}", flush=True)
    print(f"\n{table(all_tried)}\n\nseed {seed}, {time.monotonic() - began:.0f} s")
    sys.exit(any(tried.differs for tried in all_tried))


if __name__ == "__main__":
    main()
