"""What may befall a run from outside: one exception and one exit code each.

The codes are those of sysexits.h, so that a shell or a cluster's scheduler can tell the cases apart.
"""

import errno


def sentence_alone(error: BaseException) -> list[str]:
    """What IPython shows of an error whose message says all there is to know: no traceback."""
    return [str(error)]


class ParameterError(ValueError):
    """A parameter, file or name that the user has to mend; its message is one sentence on one line.

    What it quotes from outside may hold anything: line ends and control characters are written as escapes.
    """

    _render_traceback_ = sentence_alone

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))


class Stopped(KeyboardInterrupt):
    """A signal asked for the end; what ran has saved, and the same command goes on from there."""

    exit_code = 75  # EX_TEMPFAIL
    _render_traceback_ = sentence_alone


class OutOfMemory(RuntimeError):
    """A step needs more memory than there is; the message names the batch size that fits."""

    exit_code = 71  # EX_OSERR


class CannotWrite(OSError):
    """A file cannot be written, and it is not its name's fault: the disk is full, or read-only, or not ours."""

    exit_code = 73  # EX_CANTCREAT


EXIT_CODES = {fault.__name__: fault.exit_code for fault in (Stopped, OutOfMemory, CannotWrite)}
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


def of_the_disk(error: BaseException) -> bool:
    """Whether an error says that nothing can be written there at the moment, whatever its name."""
    return isinstance(error, CannotWrite) or (isinstance(error, OSError) and error.errno in _OF_THE_DISK)
