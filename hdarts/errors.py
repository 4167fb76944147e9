"""Failures from outside, each with an exception and an exit code.

The codes are those of sysexits.h, so that a shell or a cluster's scheduler can tell the cases apart.
"""

import errno


def message_only(error: BaseException) -> list[str]:
    """Return what IPython shows for an error whose message is complete: no traceback."""
    return [str(error)]


def on_one_line(text: str) -> str:
    """Return a text with its line ends and control characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ParameterError(ValueError):
    """A parameter, file or name that the user has to correct; the message is one sentence on one line (escaped)."""

    _render_traceback_ = message_only

    def __init__(self, message: str) -> None:
        super().__init__(on_one_line(message))


class Stopped(KeyboardInterrupt):
    """A run stopped by a signal after it saved; the same command resumes it."""

    exit_code = 75  # EX_TEMPFAIL
    _render_traceback_ = message_only


class OutOfMemory(RuntimeError):
    """A step does not fit into memory; the message names a batch size that fits."""

    exit_code = 71  # EX_OSERR


class CannotWrite(OSError):
    """A file cannot be written, whatever its name: the disk is full, read-only or not accessible."""

    exit_code = 73  # EX_CANTCREAT


EXIT_CODES = {fault.__name__: fault.exit_code for fault in (Stopped, OutOfMemory, CannotWrite)}
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


def of_the_disk(error: BaseException) -> bool:
    """Whether an error means that nothing can be written to the disk at the moment."""
    return isinstance(error, CannotWrite) or (isinstance(error, OSError) and error.errno in _OF_THE_DISK)
