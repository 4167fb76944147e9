"""Event files for TensorBoard: the scalars of each epoch's row, in `tensorboard/` of a run's folder.

    tensorboard --logdir runs/<study>

They are made of the rows of metrics.csv and hold nothing else: a start removes what an earlier one has left and writes
all rows anew, so that no epoch is lost or there twice.
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
    """Raise `ParameterError` where the package is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise ParameterError(
            "parameter `tensorboard` = True: needs a package that is not installed: pip install 'hdarts[tensorboard]'"
        ) from None


@contextmanager
def event_files(folder: Path, asked: bool) -> Iterator[Write]:
    """Yield a function that is given all rows so far and writes those that are new; not `asked`, it is `no_events`.

    Raises `ParameterError` as `need_tensorboard` does.
    """
    if not asked:
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
                    if name != "epoch" and value == value:  # a missing number is none
                        writer.add_scalar(name, value, row["epoch"])
            count = len(rows)
            writer.flush()

        yield write
