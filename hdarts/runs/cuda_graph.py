"""A step of a loop as one CUDA graph: the host launches one graph instead of hundreds of kernels.

On other devices, and where a function cannot be captured, it is simply called. Not yet run on a GPU.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture, on a separate stream, as CUDA graphs require

Argument = Tensor | Sequence[Tensor]


class CudaGraph:
    """`function(*arguments)` of tensors and batches, captured at the fourth call on a GPU and replayed from then on.

    What varies from call to call must be in the arguments, always of the same shapes, and the function must change its
    state in place. Its results are overwritten by the next call. It must not wait for the device.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function, self.calls, self.possible = function, 0, True
        self.graph: Any = None
        self.inputs: list[Argument] = []
        self.out: Any = None

    def __call__(self, *inputs: Argument) -> Any:
        if _tensors(inputs)[0].device.type != "cuda" or not self.possible:
            return self.function(*inputs)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._warm_up(inputs)
        self.graph = self.graph or self._captured(inputs)
        if self.graph is None:
            return self.function(*inputs)
        for static, new in zip(_tensors(self.inputs), _tensors(inputs), strict=True):
            static.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.out

    def _warm_up(self, inputs: Sequence[Argument]) -> Any:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            out = self.function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return out

    def _captured(self, inputs: Sequence[Argument]) -> Any:
        self.inputs = [x.clone() if isinstance(x, Tensor) else tuple(t.clone() for t in x) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.out = self.function(*self.inputs)
        except RuntimeError as error:
            self.possible = False
            reason = " ".join(str(error).split())[:200]
            print(f"notice: this step cannot be captured as a CUDA graph and is called: {reason}", file=sys.stderr)
            return None
        return graph


def _tensors(arguments: Sequence[Argument]) -> list[Tensor]:
    """Return all tensors among arguments, those of batches too."""
    return [x for argument in arguments for x in ([argument] if isinstance(argument, Tensor) else argument)]


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured: then nothing may wait for the device, and checks are skipped."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def host_may_read(x: Tensor) -> bool:
    """Whether a loop may read a number in every step: on a GPU the host would wait for it, so it is read later."""
    return x.device.type == "cpu"
