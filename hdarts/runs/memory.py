"""The peak memory of a process, and the batch size that fits after an out-of-memory error."""

import gc
import math
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from hdarts.errors import OutOfMemory

# the CPU has no special exception: these are messages of PyTorch's allocator, C++, CUDA and oneDNN
_WORDS = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "could not create a primitive")


def peak_memory(device: str) -> float:
    """Return the peak memory (MiB) of this process on a device.

    On Linux it is VmHWM, because ru_maxrss is inherited from the parent process; on Windows it is unknown, nan.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") / 1024
    try:
        import resource
    except ImportError:
        return math.nan
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory could not be allocated."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS))


@contextmanager
def naming_a_batch_that_fits(batch_size: int, attempt: Callable[[int], object] | None) -> Iterator[None]:
    """Turn an out-of-memory error into `OutOfMemory`, which names the largest of 1/2, 1/4, ... of the batch that fits.

    `attempt(size)` does the same step with `size` images; it may change state, because the run ends here. With None,
    for steps shared by several processes, nothing is tried.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        _free(error)
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
    else:
        return
    sizes = (batch_size >> halvings for halvings in range(1, batch_size.bit_length() - 1))
    fits = next((size for size in sizes if attempt and _fits(attempt, size)), None)
    advice = (
        f"batch_size {fits} fits" if fits else "no smaller batch fitted into the memory left; try one in a new process"
    )
    raise OutOfMemory(f"out of memory at batch_size {batch_size}: {advice} ({reason})")


@contextmanager
def explaining_full_memory() -> Iterator[None]:
    """Turn an out-of-memory error outside of a step into an `OutOfMemory` that says what is free on the GPU."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
    else:
        return
    room = ""
    if torch.cuda.is_initialized():
        free, total = (size >> 20 for size in torch.cuda.mem_get_info())
        room = f" ({free} of {total} MiB of the GPU are free)"
    raise OutOfMemory(f"out of memory outside of a step{room}: images, network or other processes need too much")


def _free(error: BaseException) -> None:
    """Free the tensors of a failed step, which the frames of its traceback and reference cycles keep alive."""
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
