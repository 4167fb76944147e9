"""Calls of compiled C files with tensors.

Kernels take float32 or float64 on the CPU and process vectors of 4, 8 or 16 lanes. Images are channels-last, matrices
row-major.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from hdarts.kernels.compiler import CannotCompile, TurnedOff, find_compiler, library

C_TYPES = {torch.float32: "float", torch.float64: "double"}
REGISTER_BYTES = 64 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 32
SLOWER = "compiled kernels cannot be used, so PyTorch computes the same, 2 to 3 times slower"
ONE_THREAD = "compiled kernels use one thread, because torch's OpenMP is not that of the compiler; name another in CC"


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

    def chunks(self, channels: int) -> tuple[int, int]:
        """Number of vectors for these channels, the last one padded, and their lanes."""
        return -(-channels // self.lanes), self.lanes

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


_loaded: dict[tuple[str, torch.dtype, int], Kernel | CannotCompile] = {}  # by name, type and lanes


def load_kernel(name: str, channels: int, x: Tensor) -> Kernel | None:
    """Return `name`.c compiled for the type of `x` and a number of channels, or None where it cannot be used.

    The first fault is printed, and then no other file is tried. In a dispatch mode, such as one that counts operations,
    kernels are not used, as it could not see into them.
    """
    if x.device.type != "cpu" or x.dtype not in C_TYPES or torch._C._len_torch_dispatch_stack():
        return None
    widest = REGISTER_BYTES // x.element_size()  # wider vectors are spilled to memory, which is 4 times as slow
    lanes = next((v for v in (4, 8) if v == widest or channels <= v), 16)
    kernel = _loaded.get((name, x.dtype, lanes))
    if kernel is None:
        fault = next((one for one in _loaded.values() if isinstance(one, CannotCompile)), None)
        kernel = _loaded[name, x.dtype, lanes] = fault or _load(name, x.dtype, lanes)
    return kernel if isinstance(kernel, Kernel) else None


def _load(name: str, dtype: torch.dtype, lanes: int) -> Kernel | CannotCompile:
    try:
        kernel = Kernel(library(Path(__file__).with_name(f"{name}.c"), REAL=C_TYPES[dtype], V=str(lanes)), lanes)
    except CannotCompile as fault:
        if not isinstance(fault, TurnedOff):
            print(f"notice: {SLOWER}: {fault}", file=sys.stderr)
        return fault
    if not _loaded and not find_compiler().openmp and torch.get_num_threads() > 1:
        print(f"notice: {ONE_THREAD}", file=sys.stderr)
    return kernel


def kernels_used() -> dict[str, Any]:
    """Describe for provenance.json what computed in this process: compiler, flags, kernels by type and lanes.

    `pytorch` lists the kernels in whose place PyTorch computed, because of `fault`; on a GPU no kernel is used.
    """
    names = {key: f"{key[0]} {C_TYPES[key[1]]} x {key[2]}" for key in _loaded}
    used: dict[str, Any] = {"compiled": [name for key, name in names.items() if isinstance(_loaded[key], Kernel)]}
    used["pytorch"] = [name for name in names.values() if name not in used["compiled"]]
    if faults := [one for one in _loaded.values() if isinstance(one, CannotCompile)]:
        used["fault"] = str(faults[0])
    if used["compiled"]:
        cc = find_compiler()
        used |= {"compiler": cc.version.partition("\n")[0], "flags": " ".join(cc.flags), "openmp": bool(cc.openmp)}
    return used


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
