"""Checkpoints: complete, atomic, verified; the last two are kept.

A file is one header line followed by the bytes of `torch.save`. The header contains the format version, the digest of
the parameters, and the SHA-256 of these two and the bytes. Reading verifies all three and loads only tensors and plain
values (`weights_only`). A damaged newest file is renamed, and the previous one is used.
"""

import hashlib
import io
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hdarts.errors import ParameterError, Stopped
from hdarts.params import Checkpoints
from hdarts.runs.atomic import write_atomic
from hdarts.runs.run import NEWEST, PREVIOUS
from hdarts.runs.signals import on_request, orphans_stop, write_stderr

MAGIC, FORMAT = "hdarts-checkpoint", 1


class DamagedCheckpoint(Exception):
    """A checkpoint file whose content is not what was written."""


def save(folder: Path, state: dict[str, Any], digest: str, *keep_as: str) -> None:
    """Write `state` (tensors and plain values) as the newest checkpoint of a run folder, and keep the previous one.

    `digest` identifies the parameters (hdarts.params.identity). For each name of `keep_as`, a copy
    `checkpoint.<name>.pt` is written too.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    torch.load(buffer, weights_only=True, map_location="meta")  # fail now, not at resume, if it cannot be read
    payload = buffer.getvalue()
    header = {"magic": MAGIC, "format": FORMAT, "parameters": digest, "sha256": _checksum(FORMAT, digest, payload)}
    content = json.dumps(header).encode() + b"\n" + payload
    for name in keep_as:  # first: a run killed between two files resumes before this epoch and writes all again
        write_atomic(folder / f"checkpoint.{name}.pt", content)
    if (folder / NEWEST).exists():
        (folder / NEWEST).replace(folder / PREVIOUS)
    write_atomic(folder / NEWEST, content)


def _checksum(form: Any, digest: Any, payload: bytes) -> str:
    checksum = hashlib.sha256(f"{form} {digest}\n".encode())
    checksum.update(payload)
    return checksum.hexdigest()


def read(path: Path, digest: str | None = None) -> dict[str, Any]:
    """Return the state in one checkpoint file.

    Raises `DamagedCheckpoint` if the bytes are not those that were written, `ParameterError` if there is no such file
    or an intact one has another format, other parameters than `digest`, or contains other objects.
    """
    try:
        header_line, _, payload = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise ParameterError(f"{path}: this checkpoint cannot be read: {error.strerror}") from None
    try:
        header = json.loads(header_line)
        form, owner, checksum = header["format"], header["parameters"], header["sha256"]
        if header["magic"] != MAGIC:
            raise KeyError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedCheckpoint(f"{path}: the header is not that of a checkpoint") from None
    if _checksum(form, owner, payload) != checksum:
        raise DamagedCheckpoint(f"{path}: the content does not have the checksum it was written with")
    if form != FORMAT:
        raise ParameterError(f"{path}: checkpoint format {form!r} is not known; this release reads format {FORMAT}")
    if digest is not None and owner != digest:
        raise ParameterError(f"{path}: belongs to a run with other parameters ({owner}, not {digest})")
    try:
        return torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except Exception:  # the checksum is right: the file has other objects
        raise ParameterError(f"{path}: contains more than tensors and plain values; it is not opened") from None


def load(folder: Path, digest: str) -> dict[str, Any] | None:
    """Return the newest intact state of a run folder, or None if the run never saved one.

    A damaged file is renamed to `<name>.damaged`, with a warning on standard error, and the previous one is read. If
    there are files and none is intact, `DamagedCheckpoint` is raised; a run never starts afresh silently. Large partial
    files of a killed process are removed.
    """
    for partial in folder.glob(".checkpoint*.part"):
        partial.unlink(missing_ok=True)
    present = [folder / name for name in (NEWEST, PREVIOUS) if (folder / name).exists()]
    for path in present:
        try:
            return read(path, digest)
        except DamagedCheckpoint as damage:
            renamed = path.replace(path.with_name(path.name + ".damaged"))
            print(f"warning: {damage}; renamed to {renamed.name}", file=sys.stderr)
    if present or list(folder.glob("checkpoint*.damaged")):
        raise DamagedCheckpoint(f"{folder}: no checkpoint is intact; remove the folder to start this run afresh")
    return None


@dataclass
class CheckpointClock:
    """When to save: every `checkpoint_epochs` epochs, after `checkpoint_minutes`, and when a stop is requested.

    Several processes must stop at the same step: `agreed` maps the signal that this process received (or None) to the
    one that any of them received (`Processes.agree`). None: there is one process. Setting `stop` requests a stop too,
    as SIGINT does, for a loop in a thread, which receives no signals.
    """

    params: Checkpoints
    agreed: Callable[[signal.Signals | None], signal.Signals | None] | None = None
    stop: threading.Event | None = None
    last: float = field(default_factory=time.monotonic)
    requested: signal.Signals | None = None
    received: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator["CheckpointClock"]:
        """Inside, a signal that requests a stop is kept until the end of the step, which saves and exits."""
        with on_request(self._ask), orphans_stop():
            yield self

    def _ask(self, number: signal.Signals) -> None:
        self.received = number
        if self.agreed is None:
            self.requested = number
        write_stderr(f"{number.name}: saves after this step and exits; a second signal ends it at once")

    def agree(self) -> None:
        """Share the signals of all processes; each calls this at the same points of its loop."""
        if self.stop is not None and self.stop.is_set():
            self.received = signal.SIGINT
        self.requested = self.received if self.agreed is None else self.agreed(self.received)

    def due_in_epoch(self) -> bool:
        """Whether `checkpoint_minutes` have passed since the last save, or a stop was requested."""
        return self.requested is not None or time.monotonic() - self.last >= 60 * self.params.checkpoint_minutes

    def due_after(self, epoch: int, epochs: int) -> bool:
        """Whether to save at the end of `epoch` (1 is the first)."""
        by_count = epoch % self.params.checkpoint_epochs == 0 or epoch in self.params.keep_epochs
        return by_count or epoch == epochs or self.due_in_epoch()

    def saved(self) -> None:
        """Note the time of a save; raise `Stopped` if a stop was requested."""
        self.last = time.monotonic()
        if self.requested is not None:
            raise Stopped(f"stopped by {self.requested.name} after saving; the same command resumes from here")


def refuse_unless_finite(tensors: Mapping[str, Tensor], where: str, folder: Path) -> None:
    """Raise `FloatingPointError` for the first tensor that is not finite; the last checkpoint then stays.

    The loss, computed before a step, does not show that the step was too large.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise FloatingPointError(f"{where}: {name} is not finite after the step; {last_checkpoint(folder)}")


def require_shapes(tensors: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose tensors are not those that it is restored into: one of other user-defined objects."""
    needed, found = ({name: tuple(tensor.shape) for name, tensor in some.items()} for some in (tensors, saved))
    if other := next((name for name in {**needed, **found} if needed.get(name) != found.get(name)), None):
        what = f"the checkpoint has {other} of shape {found.get(other)}, and {needed.get(other)} is needed"
        raise ParameterError(f"{what}: the run was started with another custom object; name another run")


def last_checkpoint(folder: Path) -> str:
    """Return a clause for messages that names the checkpoint a run resumes from."""
    path = folder / NEWEST
    return f"the last checkpoint is {path}" if path.exists() else "no checkpoint had been saved yet"
