"""The device and the precision in which a loop computes."""

import os

import torch

from hdarts.errors import ParameterError
from hdarts.params import Machine, Precision


def use_machine(params: Machine) -> torch.device:
    """Set the number of CPU threads and return the device to compute on; `auto` is the GPU where there is one.

    `deterministic` lets PyTorch refuse what has no fixed order of sums on a GPU, and cuBLAS keep to one workspace.
    """
    if params.threads:
        torch.set_num_threads(params.threads)
    if params.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.backends.cudnn.benchmark = False
    if params.deterministic != torch.are_deterministic_algorithms_enabled():  # to set it imports torch's compiler
        torch.use_deterministic_algorithms(params.deterministic)
    if params.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=params.device).device
    except (RuntimeError, AssertionError):
        raise ParameterError(f"parameter `device` = {params.device!r}: cannot be used on this machine") from None


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context in which a network computes at a precision; float32 is as its tensors are."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
