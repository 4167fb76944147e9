"""The command `hdarts convert-benchmark`: the official file of NAS-Bench-201 as a small Parquet file."""

import importlib
from pathlib import Path
from typing import Any

import pandas as pd

from hdarts.data import data_folders
from hdarts.data.nasbench201_table import DATA_SETS, FILE, PARTS, BenchmarkTable
from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic


def convert_benchmark(official: Path, output: Path | None) -> str:
    """Convert the official file, write it to `output` or the data folder, and return a sentence on it."""
    frame = convert(open_official(official))
    BenchmarkTable.from_frame(frame, official)  # refuses an incomplete table
    target = output or data_folders("")[-1] / "nasbench201" / FILE
    write_atomic(target, frame.to_parquet(index=False))
    return f"{len(frame):,} cells: {target}"


def open_official(path: Path) -> Any:
    """Open the official file `NATS-tss-*`, or its unpacked folder, with its package nats_bench.

    The file is a pickle, which can execute any code: open none of unknown origin.
    """
    try:
        nats_bench = importlib.import_module("nats_bench")
    except ImportError:
        raise ParameterError("the official file needs the package nats_bench: pip install nats_bench") from None
    if not path.exists():
        raise ParameterError(f"{path}: no such file; NATS-tss-v1_0 is at github.com/D-X-Y/NATS-Bench")
    return nats_bench.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)


def convert(api: Any) -> pd.DataFrame:
    """Return the columns of the Parquet file from an object with the interface of `nats_bench`'s topology space.

    CIFAR-10: validation of the networks trained on half of the training images (`cifar10-valid`), test of those
    trained on all of them (`cifar10`), as papers report it. All trainings of a cell are averaged.
    """

    def accuracy(index: int, data: str, part: str) -> float:
        return api.get_more_info(index, data, hp="200", is_random=False)[f"{part}-accuracy"]

    rows = []
    for index in range(len(api)):
        row: dict[str, Any] = {"architecture": api.arch(index), "unique_string": api.get_unique_str(index)}
        for data, name in DATA_SETS.items():
            for part in PARTS:
                source = "cifar10-valid" if (data, part) == ("cifar10", "valid") else name
                row[f"{data}_{part}_200ep"] = accuracy(index, source, part)
        rows.append(row)
    return pd.DataFrame(rows)
