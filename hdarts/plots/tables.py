"""The tables that figures draw: labels of columns, checks, and rows by value."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

LABELS = {
    "epoch": "epoch",
    "step": "search step",
    "validation_accuracy": "search-validation accuracy (%)",
    "embedding": "length of the embedding vectors z",
    "peak_memory_mib": "peak memory (MiB)",
    "last_test_accuracy": "test accuracy, last epoch (%)",
    "test_accuracy": "test accuracy (%)",
    "cifar10_test": "true CIFAR-10 test accuracy (%)",
    "seconds": "time (s)",
    "norm": "hypergradient norm (nats)",
    "kilobytes": "memory (kB)",
    "gradients": "gradients (count)",
    "n_alpha": "architecture parameters (count)",
    "skips_normal": "skip connections (count)",
    "cosine": "cosine to the reference",
    "relative_error": "relative error",
    "excess": "excess loss (nats)",
    "gib": "memory (GiB)",
    "multiply_adds": "multiply-adds per image",
    "best_validation_accuracy": "search-validation accuracy (%)",
    "spread": "root mean square change of the logits",
}


def label(column: str) -> str:
    """Return the axis label of a column, with its unit."""
    return LABELS.get(column, column.replace("_", " "))


def require(frame: pd.DataFrame, columns: Iterable[str], what: str) -> pd.DataFrame:
    """Return the rows with values in all of `columns`; ValueError naming the figure `what` if there are none."""
    wanted = list(columns)
    if frame.empty:
        raise ValueError(f"{what}: the table is empty, there is nothing to draw")
    if missing := [column for column in wanted if column not in frame]:
        raise ValueError(f"{what}: the table lacks the column {missing[0]!r}; it has {', '.join(map(str, frame))}")
    rows = frame.dropna(subset=wanted)
    if rows.empty:
        raise ValueError(f"{what}: no row has values in all of the columns {', '.join(wanted)}")
    return rows


def split(frame: pd.DataFrame, column: str) -> dict[Any, pd.DataFrame]:
    """Return the rows of each value of `column`, values in the order in which they appear."""
    return dict(iter(frame.groupby(column, sort=False)))
