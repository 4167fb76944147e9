"""One training on several processes: each takes its share of every batch, and together they take one step.

    loss = sum over processes i of (n_i / n) (mean loss of its n_i images)      n images in the whole batch

PyTorch's DistributedDataParallel averages gradients over the processes, so each multiplies its loss by their number:
the gradient is that of the whole batch, and learning rate and schedule are those of one process.

Only BatchNorm differs from one process. Each process normalises by its own share of a batch, and the running statistics
are those of the first; `synchronise_batch_norm` makes both those of the whole batch.

A resumed training gives the same bits as an uninterrupted one. DDP would regroup the gradients after its first step,
and on three or more processes the order of a sum depends on the group; with `find_unused_parameters` it does not. DDP
then warns once per process that there are no unused parameters.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

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

    def write_text(self, name: str, text: str) -> Path:
        return self.folder / name


class _Sum(torch.autograd.Function):
    """y_j = sum_i x_i in every process j, and backwards dx_i = sum_j dy_j (torch.distributed.nn's is deprecated)."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[override]
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:  # type: ignore[override]
        total = g.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with mean and variance over the images of all processes.

    `torch.nn.SyncBatchNorm` refuses tensors on the CPU, where this is tested; one class serves both devices.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        y = x.to(self.weight.dtype)
        sums = _Sum.apply(torch.cat([y.sum((0, 2, 3)), y.new_full((1,), y[:, 0].numel())]))
        assert isinstance(sums, Tensor)
        mean, count = sums[:-1] / sums[-1], sums[-1]
        centred = y - mean[:, None, None]
        variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum or 0.0)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Replace every BatchNorm of a network by one over the images of all processes."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                new = SynchronisedBatchNorm2d(child.num_features, child.eps, child.momentum).to(child.weight)
                new.load_state_dict(child.state_dict())
                setattr(module, name, new)
