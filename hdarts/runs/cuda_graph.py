"""A step of a loop as one CUDA graph: the host launches one graph instead of hundreds of kernels.

On other devices, and where a function cannot be captured, it is simply called. Not yet run on a GPU.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the capture, on a separate stream, as CUDA graphs require
WITHOUT_GRAPHS = ("cpu", "mps")  # kinds of devices

Argument = Any  # a tensor, a batch (a tuple of tensors) or a list of batches


class CudaGraph:
    """`function(*arguments)` of tensors and batches, captured at the fourth call on a GPU and replayed from then on.

    What varies from call to call must be in the arguments or in tensors that are changed in place, and the function
    must change its state in place. Its results are overwritten by the next call. It must not wait for the device. The
    graph is of the first shapes that come a fourth time; with others, such as those of an epoch's last short batch, the
    function is called, because a second graph would need as much memory again.
    """

    def __init__(self, function: Callable[..., Any]):
        self.function, self.possible = function, True
        self.calls: Counter[tuple[torch.Size, ...]] = Counter()  # by the shapes of the arguments
        self.graph: Any = None
        self.inputs: list[Argument] = []
        self.out: Any = None

    def __call__(self, *inputs: Argument) -> Any:
        tensors = _tensors(inputs)
        if host_may_read(tensors[0]) or not self.possible:
            return self.function(*inputs)
        if self.graph is None:
            shapes = tuple(x.shape for x in tensors)
            self.calls[shapes] += 1
            if self.calls[shapes] <= WARM_UP:
                return self._warm_up(inputs)
            self.graph = self._captured(inputs)
        statics = _tensors(self.inputs)
        if self.graph is None or [x.shape for x in statics] != [x.shape for x in tensors]:
            return self.function(*inputs)
        for static, new in zip(statics, tensors, strict=True):
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
        self.inputs = [_cloned(x) for x in inputs]
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
    return [x for one in arguments for x in ([one] if isinstance(one, Tensor) else _tensors(one))]


def _cloned(argument: Argument) -> Argument:
    return argument.clone() if isinstance(argument, Tensor) else type(argument)(_cloned(one) for one in argument)


def is_capturing(x: Tensor) -> bool:
    """Whether a CUDA graph is being captured: then nothing may wait for the device of `x`, and checks are skipped."""
    return x.device.type not in WITHOUT_GRAPHS and torch.cuda.is_current_stream_capturing()


def host_may_read(x: Tensor) -> bool:
    """Whether a loop may read a number in every step: on a GPU the host would wait for it, so it is read later."""
    return x.device.type in WITHOUT_GRAPHS
