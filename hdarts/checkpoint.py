"""Checkpoints: complete, atomic, verified; the last two are kept.

A file is one header line and the bytes of `torch.save`. The header holds the format version, the digest of the
parameters the state belongs to, and the SHA-256 of the bytes. Reading verifies all three and loads tensors and plain
values only (`weights_only`). A damaged newest file is set aside by name and the one before is used.
"""

import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch

from hdarts.params import ParameterError
from hdarts.records import write_atomic

MAGIC, FORMAT = "hdarts-checkpoint", 1
NEWEST, BEFORE = "checkpoint.pt", "checkpoint.previous.pt"


class DamagedCheckpoint(Exception):
    """A checkpoint file that cannot be what was written."""


def save(folder: Path, state: dict[str, Any], digest: str, keep_as: str = "") -> None:
    """Write `state` as the newest checkpoint of a run folder; the one before it stays.

    `digest` names the parameters (hdarts.params.identity). With `keep_as`, a copy `checkpoint.<keep_as>.pt` is
    written too, which rotation leaves alone.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    header = {"magic": MAGIC, "format": FORMAT, "parameters": digest, "sha256": hashlib.sha256(payload).hexdigest()}
    content = json.dumps(header).encode() + b"\n" + payload
    if (folder / NEWEST).exists():
        (folder / NEWEST).replace(folder / BEFORE)
    write_atomic(folder / NEWEST, content)
    if keep_as:
        write_atomic(folder / f"checkpoint.{keep_as}.pt", content)


def read(path: Path, digest: str | None = None) -> dict[str, Any]:
    """Return the state in one checkpoint file.

    Raises `DamagedCheckpoint` when the bytes are not those that were written, `ParameterError` when the file is whole
    but has another format or belongs to other parameters than `digest`.
    """
    header_line, _, payload = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(header_line)
        form, owner, checksum = header["format"], header["parameters"], header["sha256"]
        if header["magic"] != MAGIC:
            raise KeyError
    except (ValueError, KeyError, TypeError):
        raise DamagedCheckpoint(f"{path}: the header is not that of a checkpoint") from None
    if form != FORMAT:
        raise ParameterError(f"{path}: checkpoint format {form!r} is not known; this release reads format {FORMAT}")
    if hashlib.sha256(payload).hexdigest() != checksum:
        raise DamagedCheckpoint(f"{path}: the content does not have the checksum it was written with")
    if digest is not None and owner != digest:
        raise ParameterError(f"{path}: belongs to a run with other parameters ({owner}, not {digest})")
    return torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")


def load(folder: Path, digest: str) -> dict[str, Any] | None:
    """Return the newest whole state of a run folder, or None when the run never saved one.

    A damaged file is renamed to `<name>.damaged`, named on standard error, and the one before is read. When files
    were there and none is whole, `DamagedCheckpoint` is raised: never a silent fresh start.
    """
    present = [folder / name for name in (NEWEST, BEFORE) if (folder / name).exists()]
    for path in present:
        try:
            return read(path, digest)
        except DamagedCheckpoint as damage:
            aside = path.with_name(path.name + ".damaged")
            path.replace(aside)
            print(f"warning: {damage}; set aside as {aside.name}", file=sys.stderr)
    if present or list(folder.glob("checkpoint*.damaged")):
        raise DamagedCheckpoint(f"{folder}: no checkpoint is whole; remove the folder to start this run afresh")
    return None


def prune(folder: Path) -> None:
    """Remove the rotating checkpoints of a finished run; snapshots named by `keep_epochs` stay."""
    for name in (NEWEST, BEFORE):
        (folder / name).unlink(missing_ok=True)
