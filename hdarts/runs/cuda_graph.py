"""A step of a loop as one CUDA graph: its hundreds of launches cost the host one.

On other devices, and where a function cannot be captured, it is simply called. Not yet run on a GPU.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture, on a stream of their own, as CUDA graphs want it


class CudaGraph:
    """`function(*tensors)`, captured at the fourth call on a GPU and replayed from then on.

    What varies from call to call has to come in by the arguments, always of the same shapes; what the function
    changes it has to change in place. Its results are overwritten by the next call. It must not wait for the device.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function, self.calls, self.possible = function, 0, True
        self.graph: Any = None
        self.inputs: list[Tensor] = []
        self.out: Any = None

    def __call__(self, *inputs: Tensor) -> Any:
        """Call the function, or replay what it did."""
        if inputs[0].device.type != "cuda" or not self.possible:
            return self.function(*inputs)
        self.calls += 1
        if self.calls <= WARM_UP:
            return self._beside(inputs)
        self.graph = self.graph or self._captured(inputs)
        if self.graph is None:
            return self.function(*inputs)
        for kept, new in zip(self.inputs, inputs, strict=True):
            kept.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.out

    def _beside(self, inputs: tuple[Tensor, ...]) -> Any:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            out = self.function(*inputs)
        torch.cuda.current_stream().wait_stream(stream)
        return out

    def _captured(self, inputs: tuple[Tensor, ...]) -> Any:
        self.inputs, graph = [one.clone() for one in inputs], torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.out = self.function(*self.inputs)
        except RuntimeError as error:
            self.possible = False
            told = " ".join(str(error).split())[:200]
            print(
                f"notice: this step cannot be captured as a CUDA graph and is called instead: {told}", file=sys.stderr
            )
            return None
        return graph


def is_capturing() -> bool:
    """Whether a CUDA graph is being captured: then nothing may wait for the device, and checks are left out."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def host_may_read(x: Tensor) -> bool:
    """Whether a loop may look at a number every step: on a GPU the host would wait for it, so there it looks later."""
    return x.device.type == "cpu"
