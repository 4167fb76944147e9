"""Calls of compiled C files with tensors.

Kernels take float32 or float64 on the CPU and process vectors of 4, 8 or 16 lanes. Images are channels-last, matrices
row-major.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hdarts.kernels.compiler import library

C_TYPES = {torch.float32: "float", torch.float64: "double"}
REGISTER_BYTES = 64 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 32
MAX_TERMS = 32  # of the sum at a node in separable.c


def int64_fields(*names: str) -> list[tuple[str, type]]:
    """Return fields of a C structure, one int64_t per name."""
    return [(name, ctypes.c_int64) for name in names]


class SizeStruct(ctypes.Structure):
    """Sizes passed to a C function; the last field is the number of threads."""

    @classmethod
    def of(cls, *sizes: int) -> Self:
        """Create it from all other sizes; the number of threads is PyTorch's."""
        return cls(*sizes, torch.get_num_threads())

    def __str__(self) -> str:
        return ", ".join(f"{name} {getattr(self, name)}" for name, *_ in self._fields_)


class WindowSizes(SizeStruct):
    """Sizes of a convolution or pooling: its input, edges = sources x nodes, its window (`Shape` in lanes.h)."""

    _fields_ = int64_fields(
        *("images", "height", "width", "channels", "sources", "nodes"), *("kernel", "stride", "dilation", "threads")
    )

    def size_out(self) -> tuple[int, int]:
        """Height and width of the result: zero padding keeps the size at stride 1."""
        return (self.height - 1) // self.stride + 1, (self.width - 1) // self.stride + 1


@dataclass(frozen=True)
class Kernel:
    """A C file compiled for one floating-point type and `lanes` channels per vector."""

    library: ctypes.CDLL
    lanes: int

    def call(self, name: str, sizes: SizeStruct, *arguments: Any) -> None:
        """Call a function of the library; tensors and lists of tensors are passed as pointers."""
        if getattr(self.library, name)(ctypes.byref(sizes), *map(_c_argument, arguments)):
            raise MemoryError(f"no memory for {name} of {sizes}")


def _c_argument(value: Any) -> Any:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    if isinstance(value, list | tuple):
        return (ctypes.c_void_p * len(value))(*(None if one is None else one.data_ptr() for one in value))
    return value if value is None else ctypes.c_int64(value)


def load_kernel(name: str, channels: int, x: Tensor) -> Kernel | None:
    """Return `name`.c compiled for the type of `x` and a number of channels, or None where it cannot be used."""
    if x.device.type != "cpu" or x.dtype not in C_TYPES:
        return None
    widest = REGISTER_BYTES // x.element_size()  # wider vectors are spilled to memory, which is 4 times as slow
    lanes = next((v for v in (4, 8) if v == widest or channels <= v), 16)
    source = Path(__file__).with_name(f"{name}.c")
    compiled = library(source, REAL=C_TYPES[x.dtype], V=str(lanes), MAX_TERMS=str(MAX_TERMS))
    return None if compiled is None else Kernel(compiled, lanes)


def channels_last(x: Tensor) -> Tensor:
    """Return `(N, C, H, W)` as contiguous `(N, H, W, C)`, without a copy where `x` is channels-last."""
    return x.permute(0, 2, 3, 1).contiguous()


def vjp(
    by_kernel: Callable[[], Sequence[Tensor | None]],
    in_pytorch: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor | None],
    needed: Sequence[bool],
    g: Sequence[Tensor],
) -> list[Tensor | None]:
    """Return the vector-Jacobian products of a function for the inputs that are `needed`; None for the others.

    They are those of `by_kernel`, unless they will be differentiated again: then `in_pytorch`, the same function of the
    inputs, is differentiated with a graph.
    """
    if not any(needed):
        return [None for _ in needed]
    if not torch.is_grad_enabled():
        return [one if need else None for one, need in zip(by_kernel(), needed, strict=True)]
    inputs = [None if one is None else one.view_as(one) for one in inputs]  # an input may depend on another one
    free = [one for one, need in zip(inputs, needed, strict=True) if need and one is not None]
    grads = iter(torch.autograd.grad(in_pytorch(*inputs), free, g, create_graph=True))
    return [next(grads) if need else None for need in needed]
