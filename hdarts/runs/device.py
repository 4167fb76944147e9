"""The device and the precision in which a loop computes."""

import os

import torch

from hdarts.errors import ParameterError
from hdarts.params import Machine, Precision


def use_machine(params: Machine) -> torch.device:
    """Set the number of CPU threads and return the device to compute on; `auto` is a GPU if there is one.

    With `deterministic`, PyTorch refuses operations without a fixed order of sums on a GPU, and cuBLAS uses one
    workspace.
    """
    if params.threads:
        torch.set_num_threads(params.threads)
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.backends.cudnn.benchmark = False
    if params.deterministic != torch.are_deterministic_algorithms_enabled():  # setting it imports torch's compiler
        torch.use_deterministic_algorithms(params.deterministic)
    if params.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=params.device).device
    except (RuntimeError, AssertionError):
        raise ParameterError(f"parameter `device` = {params.device!r}: cannot be used on this machine") from None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the autocast context of a precision; float32 changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float32 unless it has as many digits: losses of bfloat16 logits would keep two or three."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
