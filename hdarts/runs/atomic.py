"""Files that are written whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hdarts.errors import CannotWrite, ParameterError, of_the_disk


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or the next start after a kill, sees the old one or the new one, whole.

    Raises `CannotWrite` where the disk is full or read-only; the old file is then still there.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        _replace(path, data)
    except OSError as error:
        if of_the_disk(error):
            raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None
        raise
    with contextlib.suppress(OSError):  # a file system that cannot sync folders still has the file's own sync
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a read-only disk it cannot be removed, and was never there
            beside.unlink(missing_ok=True)
        raise


def write_folder(target: Path, files: Mapping[str, bytes | str]) -> None:
    """Write a new folder of files, named by their paths in it, whole or not at all.

    Raises `ParameterError` for one that is there already and not empty, `CannotWrite` for a full or read-only disk.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ParameterError(f"{target}: is there already; name a folder that is new or empty")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        fault = CannotWrite if of_the_disk(error) else ParameterError
        raise fault(f"{target} cannot be written: {error.strerror}") from None
    try:
        for name, content in files.items():
            write_atomic(beside / name, content)
        beside.chmod(0o755)
        beside.rename(target)  # onto nothing, or an empty folder
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
