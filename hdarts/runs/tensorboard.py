"""Event files for TensorBoard: the scalars of each epoch, in `tensorboard/` of the run folder.

    tensorboard --logdir runs/<study>

They contain only the rows of metrics.csv. Each start removes the earlier files and writes all rows again, so that no
epoch is missing or duplicated.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hdarts.errors import ParameterError

FOLDER = "tensorboard"
Write = Callable[[Sequence[Mapping[str, Any]]], None]


def no_events(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write nothing."""


def need_tensorboard() -> None:
    """Raise `ParameterError` if the package is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ParameterError(
            "parameter `tensorboard` = True: needs a package that is not installed: pip install 'hdarts[tensorboard]'"
        ) from None


@contextmanager
def event_files(folder: Path, enabled: bool) -> Iterator[Write]:
    """Yield a function of all rows so far that writes the new ones; `no_events` unless `enabled`.

    Raises `ParameterError` as `need_tensorboard` does.
    """
    if not enabled:
        yield no_events
        return
    need_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder / FOLDER, ignore_errors=True)
    count = 0
    with SummaryWriter(str(folder / FOLDER)) as writer:

        def write(rows: Sequence[Mapping[str, Any]]) -> None:
            nonlocal count
            for row in rows[count:]:
                for name, value in row.items():
                    if name != "epoch" and value == value:  # nan is a missing value
                        writer.add_scalar(name, value, row["epoch"])
            count = len(rows)
            writer.flush()

        yield write
