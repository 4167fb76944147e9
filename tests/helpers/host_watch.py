"""What a step on a GPU would copy from the host, and what the host would wait for, seen on the device `meta`.

Tensors of `meta` have shapes and no values, and need no hardware; a read of one would be an error.
"""

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import hdarts

DEVICE = torch.device("meta")
DEPENDS_ON_DATA = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
FROM_PYTHON = {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor, Tensor.new_tensor}
INDEXED = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_}  # by integers or masks
INDEXING = {Tensor.__getitem__, Tensor.__setitem__}


class _Creations(TorchFunctionMode):
    """Tensors made from Python numbers on the device and lists as indices: copies, but invisible on `meta`."""

    def __init__(self, copies: list[str]) -> None:
        self.copies = copies

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        made = func in FROM_PYTHON and out.device == DEVICE
        if made or (func in INDEXING and args[0].device == DEVICE and _has_list(args[1])):
            self.copies.append(f"{func.__name__} {place()}")
        return out


def _has_list(index: Any) -> bool:
    return any(isinstance(one, list) for one in (index if isinstance(index, tuple) else (index,)))


class HostWatch(TorchDispatchMode):
    """List the copies between devices, and the reads: numbers and shapes for which the host waits for the device.

    A tensor of the host next to one of the device counts as a copy: a CUDA graph would keep its first value. Numbers
    are read as 1, so that a function goes on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.reads: list[str] = []
        self.doubles: list[str] = []  # results in float64, which some devices do not have
        self.creations = _Creations(self.copies)

    def __enter__(self) -> "HostWatch":
        self.creations.__enter__()
        return super().__enter__()  # type: ignore[return-value]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.creations.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [one for each in (*args, *kwargs.values()) for one in (each if isinstance(each, list) else (each,))]
        tensors = [one for one in leaves if isinstance(one, Tensor)]
        devices = {one.device for one in tensors} | {one for one in leaves if isinstance(one, torch.device) and tensors}
        masked = func.overloadpacket in INDEXED and any(one.dtype == torch.bool for one in tensors[1:])
        depends = func.overloadpacket not in INDEXED and DEPENDS_ON_DATA & set(func.tags)
        if len(devices) > 1:
            self.copies.append(f"{func} {place()}")
        elif DEVICE in devices and (masked or depends):
            self.reads.append(f"{func} {place()}")
            if "_local_scalar_dense" in str(func):
                return 1
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.device == DEVICE and out.dtype == torch.float64:
            self.doubles.append(f"{func} {place()}")
        return out


def place() -> str:
    """Return file and line of hdarts that is being executed."""
    folder = Path(hdarts.__file__).parent
    frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(folder))]
    return f"at {Path(frames[-1].filename).relative_to(folder)}:{frames[-1].lineno}" if frames else "in the test"
