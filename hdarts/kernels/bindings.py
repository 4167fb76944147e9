"""The compiled kernels as PyTorch sees them: functions of a C file, called with tensors.

They take float32 or float64 on the CPU in vectors of 4, 8 or 16 lanes: images channels-last, matrices row by row.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hdarts.kernels.compiler import library

NAMES = {torch.float32: "float", torch.float64: "double"}
REGISTER = 64 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 32  # bytes
MOST = 32  # terms of a node's sum that separable.c takes at a time


def integers(*names: str) -> list[tuple[str, type]]:
    """Return fields of a structure, int64_t each."""
    return [(name, ctypes.c_int64) for name in names]


class Sizes(ctypes.Structure):
    """The sizes a function of a C file is told; the last field is the number of threads to use."""

    @classmethod
    def of(cls, *sizes: int) -> Self:
        """Make it of all sizes but the threads, which are PyTorch's."""
        return cls(*sizes, torch.get_num_threads())

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name, *_ in self._fields_)


class Shape(Sizes):
    """One convolution: size of its input, edges = sources x fan, kernel, and the threads (depthwise.h)."""

    _fields_ = integers(
        *("images", "height", "width", "channels", "sources", "fan"), *("kernel", "stride", "dilation", "threads")
    )

    def size_out(self) -> tuple[int, int]:
        """Height and width of the result: zeros at the borders keep the size at stride 1."""
        return (self.height - 1) // self.stride + 1, (self.width - 1) // self.stride + 1


@dataclass(frozen=True)
class Kernel:
    """A C file, compiled for one type of number and `lanes` channels in a vector."""

    library: ctypes.CDLL
    lanes: int

    def call(self, name: str, sizes: Sizes, *arguments: Any) -> None:
        """Call a function of the library; tensors and lists of tensors are given as pointers."""
        if getattr(self.library, name)(ctypes.byref(sizes), *map(_pointer, arguments)):
            raise MemoryError(f"no memory for {name} of {sizes}")


def _pointer(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, list | tuple):
        return (ctypes.c_void_p * len(value))(*(None if one is None else one.data_ptr() for one in value))
    return value if value is None else ctypes.c_int64(value)


def kernel(name: str, channels: int, x: Tensor) -> Kernel | None:
    """Return `name`.c for so many channels of numbers like those of `x`, or None where it cannot be used."""
    if x.device.type != "cpu" or x.dtype not in NAMES:
        return None
    widest = REGISTER // x.element_size()  # wider ones go through memory: a weight step took 4 times as long
    lanes = next((v for v in (4, 8) if v == widest or channels <= v), 16)
    source = Path(__file__).with_name(f"{name}.c")
    found = library(source, REAL=NAMES[x.dtype], V=str(lanes), MOST=str(MOST))
    return None if found is None else Kernel(found, lanes)


def rows(x: Tensor) -> Tensor:
    """`(N, C, H, W)` as `(N, H, W, C)`, contiguous: no copy where it is channels-last."""
    return x.permute(0, 2, 3, 1).contiguous()


def twice(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    g: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return the gradients in the `wanted` inputs of a function of PyTorch's operators, to be differentiated again.

    That is the backward pass of a kernel where a second derivative is asked for.
    """
    own = [None if one is None else one.view_as(one) for one in inputs]  # an input may come from another one
    needed = [one for one, want in zip(own, wanted, strict=True) if want and one is not None]
    found = iter(torch.autograd.grad(function(*own), needed, g, create_graph=True))
    return [next(found) if want else None for want in wanted]
