"""Atomic writes of files and folders."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hdarts.errors import CannotWrite, ParameterError, of_the_disk


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file such that a reader, or the next start after a kill, sees either the old or the new one, complete.

    Raises `CannotWrite` if the disk is full or read-only; the old file then remains.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        _replace(path, data)
    except OSError as error:
        if of_the_disk(error):
            raise CannotWrite(f"{path} cannot be written: {error.strerror}") from None
        raise
    with contextlib.suppress(OSError):  # some file systems cannot sync folders; the file itself is synced
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a read-only disk it cannot be removed, nor does it exist
            part.unlink(missing_ok=True)
        raise


def write_folder(target: Path, files: Mapping[str, bytes | str]) -> None:
    """Write a new folder atomically; `files` maps paths in it to contents.

    Raises `ParameterError` if it exists and is not empty, `CannotWrite` if the disk is full or read-only.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ParameterError(f"{target}: already exists; name a folder that is new or empty")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        fault = CannotWrite if of_the_disk(error) else ParameterError
        raise fault(f"{target} cannot be written: {error.strerror}") from None
    try:
        for name, content in files.items():
            write_atomic(part / name, content)
        part.chmod(0o755)
        part.rename(target)  # which is missing, or an empty folder
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
