"""The device and the precision in which a loop computes."""

import os
import sys
from typing import Any

import torch

from hdarts.errors import OutOfMemory, ParameterError
from hdarts.params import Machine, Precision
from hdarts.runs.limits import cores
from hdarts.runs.memory import is_out_of_memory

WITHOUT_FLOAT64 = {"mps"}  # kinds of devices


def use_machine(params: Machine) -> torch.device:
    """Set the number of CPU threads, at most that of cores, and return the device; `auto` is a GPU if there is one.

    With `deterministic`, PyTorch refuses operations without a fixed order of sums on a GPU, and cuBLAS uses one
    workspace.
    """
    if params.threads:
        if params.threads > (most := cores()):
            print(f"notice: threads {params.threads}: {most} are used, the cores of this process", file=sys.stderr)
        torch.set_num_threads(min(params.threads, most))
    elif "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())  # PyTorch's default counts the cores of the host, not those of a container
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.backends.cudnn.benchmark = False
    if params.deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports torch's compiler
        torch.use_deterministic_algorithms(params.deterministic)
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.empty(0, device=automatic if params.device == "auto" else params.device).device
    except (RuntimeError, AssertionError) as error:
        named = f"parameter `device` = {params.device!r}"
        if is_out_of_memory(error):
            raise OutOfMemory(f"{named}: other processes use all memory of the GPU") from None
        found = f"PyTorch finds {torch.cuda.device_count()} GPUs"
        raise ParameterError(f"{named}: cannot be used on this machine, where {found}") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)  # streams and graphs belong to the current device
    return device


def widest_float(device: torch.device) -> torch.dtype:
    """Return the widest floating-point type of a device, for sums: float64, or float32 where there is no float64."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def to_device(part: Any, device: torch.device) -> Any:
    """Return `part` on a device; an object without a method `to` has no tensors and is returned as it is."""
    return part.to(device) if hasattr(part, "to") else part


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the autocast context of a precision; float32 changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float32 unless it has as many digits: losses of bfloat16 logits would keep two or three."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
