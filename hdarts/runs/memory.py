"""Memory: the most a process held, and when there is too little, which batch size fits, as found by trying."""

import gc
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hdarts.errors import OutOfMemory

# the CPU has no exception of its own: the words of PyTorch's allocator, of C++, of CUDA and of oneDNN
_WORDS = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "could not create a primitive")


def peak_memory(device: str) -> float:
    """Return the most memory (MiB) this process ever held on a device.

    Linux's ru_maxrss starts with that of the parent process, VmHWM does not.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS))


@contextmanager
def naming_a_batch_that_fits(batch_size: int, attempt: Callable[[int], object] | None) -> Iterator[None]:
    """Turn a want of memory into `OutOfMemory` that names the largest half, quarter, ... of the batch that fits.

    `attempt(size)` takes the same step on so many images; what it changes is lost, for the run ends here. With None,
    where others take part in a step, nothing is tried.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        _free(error)
        told = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
    else:
        return
    sizes = (batch_size >> halvings for halvings in range(1, batch_size.bit_length() - 1))
    fits = next((size for size in sizes if attempt and _fits(attempt, size)), None)
    advice = (
        f"batch_size {fits} fits" if fits else "no smaller batch fitted into what was then left; try one in a new start"
    )
    raise OutOfMemory(f"out of memory at batch_size {batch_size}: {advice} ({told})")


def _free(error: BaseException) -> None:
    """Let go of the tensors of a failed step: frames of its traceback hold them, and circles of references do."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()


def _fits(attempt: Callable[[int], object], size: int) -> bool:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        attempt(size)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _free(error)
        return False
    return True
