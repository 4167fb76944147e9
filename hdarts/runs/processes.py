"""The processes that torchrun started for one run: who writes, and how they sum and agree."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from hdarts.errors import ParameterError
from hdarts.params import Parameters
from hdarts.runs.run import Run


@dataclass(frozen=True)
class Processes:
    """The processes of one training, and which of them this is. A single one does not communicate."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def open(self, params: Parameters) -> Run:
        """Open the run folder of `params`, in the main process before the others."""
        with self.main_first():
            return (Run if self.is_main else ReadOnlyRun).open(params)

    def validate(self, batch_size: int, device: str) -> None:
        """Raise `ParameterError` for a batch or a device that these processes cannot share.

        Shares have to be equal and of two images or more, which BatchNorm needs; each process needs its own GPU.
        """
        if batch_size % self.world or batch_size < 2 * self.world:
            raise ParameterError(
                f"batch_size {batch_size} cannot be split among {self.world} processes: use a multiple of "
                f"{self.world}, at least {2 * self.world}; it is the whole batch of all processes"
            )
        if self.world > 1 and device != "cpu" and (gpus := torch.cuda.device_count()):
            local = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
            if local > gpus or ":" in device:
                raise ParameterError(
                    f"device {device!r}, {local} processes, {gpus} GPUs: use `cuda` and one GPU per process"
                )

    def parallel(self, network: nn.Module) -> nn.Module:
        """Return the network to train: one whose backward pass averages gradients, or itself for one process."""
        return DistributedDataParallel(network, find_unused_parameters=True) if self.world > 1 else network

    def sum(self, x: Tensor) -> Tensor:
        """Sum `x` over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(x)
        return x

    def broadcast(self, tensors: Iterator[Tensor]) -> None:
        """Copy tensors of the main process to the others, in place."""
        for tensor in tensors if self.world > 1 else ():
            dist.broadcast(tensor, 0)

    def agree(self, request: signal.Signals | None) -> signal.Signals | None:
        """Return the signal that any of the processes received, the same in all."""
        if self.world == 1:
            return request
        number = torch.tensor(request or 0)  # not on a GPU, for which the host would have to wait
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None

    def wait(self) -> None:
        self.agree(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the body in the main process before the others, which see the files that it wrote or repaired."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


SINGLE = Processes()


@contextmanager
def process_group() -> Iterator[Processes]:
    """Join the processes started by torchrun: over gloo, and over nccl for tensors on GPUs. Without it there is one."""
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE
        return
    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    yield Processes(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # not after an error: the others may be waiting for this process


class ReadOnlyRun(Run):
    """The run folder of a process other than the main one, which writes nothing."""

    def write_text(self, name: str, text: str | bytes) -> Path:
        return self.folder / name

    def write_provenance(self, **more: Any) -> None:
        """Write nothing."""

    def add_provenance(self, **more: Any) -> None:
        """Write nothing."""


class SynchronisedStatistics(TorchFunctionMode):
    """Inside, BatchNorm by PyTorch's operators uses mean and variance of the images of all processes.

    `present`: whether the images of this process count; a process without a share of the batch computes one image that
    does not.
    """

    def __init__(self, present: bool):
        super().__init__()
        self.present = float(present)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return (self.batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))

    def batch_norm(
        self, x: Tensor, running_mean: None, running_var: None, weight: Tensor | None = None,
        bias: Tensor | None = None, training: bool = True, momentum: float = 0.1, eps: float = 1e-5,
    ) -> Tensor:  # fmt: skip
        centred, _, variance, _ = common_moments(x, self.present)
        scale = (variance + eps).rsqrt()
        out = centred * (scale if weight is None else scale * weight).view(-1, 1, 1)
        return out if bias is None else out + bias.view(-1, 1, 1)


def common_moments(x: Tensor, present: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x `(N, C, H, W)` minus its mean, and mean, variance and number of values per channel, of all processes.

    `present`: 1, or 0 for a process whose images do not count. Means and variances `(C,)` are differentiable.
    """
    count = x.new_full((1,), x[:, 0].numel())
    sums: Any = Sum.apply(torch.cat([x.sum((0, 2, 3)), count]) * present)
    mean = sums[:-1] / sums[-1]
    centred = x - mean.view(-1, 1, 1)
    squares: Any = Sum.apply(centred.square().sum((0, 2, 3)) * present)
    return centred, mean, squares / sums[-1], sums[-1]


class Sum(torch.autograd.Function):
    """y_j = sum_i x_i in every process j, and backwards dx_i = sum_j dy_j; differentiable any number of times.

    (torch.distributed.nn's is deprecated.)
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return Sum.apply(*g)


class Shared(torch.autograd.Function):
    """The identity, with gradients summed over all processes: for a tensor that each uses to compute its share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return Joined.apply(*g)


class Joined(torch.autograd.Function):
    """The sum over all processes of what each computed for its share; its gradient is unchanged (dual of `Shared`)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return Sum.forward(ctx, x)

    @staticmethod
    def backward(ctx: Any, *g: Any) -> Any:
        return Shared.apply(*g)
