"""One training on several processes: each takes its part of every batch, and together they take the step of one.

    loss = sum over processes i of (n_i / n) (mean loss of its n_i images)      n images in the whole batch

Its gradient is the sum of theirs and that of the whole batch, so the learning rate and its schedule are those of one
process. These are the semantics of DistributedDataParallel, with one all-reduce after the backward pass: a found
network has few weights, and every process then holds the same state after every step, of which the first writes all.

What differs from one process is BatchNorm: each process normalises by its own part of a batch, unless
`synchronise_batch_norm` has made it the whole batch. Running statistics are averaged after every step.
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

from hdarts.errors import ParameterError
from hdarts.params import Parameters
from hdarts.runs.run import Run


@dataclass(frozen=True)
class Processes:
    """How many processes train together, and which of them this is. One alone has nothing to say to others."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def open(self, params: Parameters) -> Run:
        """Open the run folder of `params`, the first process before the others."""
        with self.main_first():
            return (Run if self.is_main else Read).open(params)

    def check(self, batch_size: int, device: str) -> None:
        """Refuse a batch that cannot be shared out equally, or leaves a process one image, for BatchNorm needs two.

        Refuse as well GPUs that are fewer than the processes of this host.
        """
        if batch_size % self.world or batch_size < 2 * self.world:
            raise ParameterError(
                f"batch_size {batch_size} cannot be shared out to {self.world} processes: give a multiple of "
                f"{self.world}, {2 * self.world} at least; it is the whole batch over all of them"
            )
        if self.world > 1 and device != "cpu" and (gpus := torch.cuda.device_count()):
            here = int(os.environ.get("LOCAL_WORLD_SIZE", self.world))
            if here > gpus or ":" in device:
                raise ParameterError(
                    f"device {device!r}, {here} processes, {gpus} GPUs: give `cuda` and a GPU a process"
                )

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of `x` over all processes, in place of it."""
        if self.world > 1:
            dist.all_reduce(x)
        return x

    def combine(self, network: nn.Module) -> None:
        """Sum the gradients of all processes, and average their running statistics."""
        if self.world == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        running = [buffer for buffer in network.buffers() if buffer.is_floating_point()]
        for tensors, scale in ((gradients, 1.0), (running, 1 / self.world)):
            if tensors:
                flat = self.sum(torch.cat([tensor.flatten() for tensor in tensors])) * scale
                for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                    tensor.copy_(part.view_as(tensor))

    def agree(self, asked: signal.Signals | None) -> signal.Signals | None:
        """Return the signal that any of the processes was asked to stop by, the same in all."""
        if self.world == 1:
            return asked
        number = torch.tensor(asked or 0)  # not on a GPU, for which the host would have to wait
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return signal.Signals(int(number)) if number else None

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.agree(None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The first process goes before the others, which find what it has written, or mended."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()


SINGLE = Processes()


@contextmanager
def process_group() -> Iterator[Processes]:
    """Join the processes that torchrun has started; without it there is one.

    They speak by gloo, and their tensors on GPUs, one GPU a process, by nccl.
    """
    if not dist.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        yield SINGLE
        return
    if gpus := torch.cuda.device_count():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo")
    yield Processes(dist.get_rank(), dist.get_world_size())
    dist.destroy_process_group()  # after an error the others may wait for what does not come


class Read(Run):
    """A run folder as the processes beside the first have it: they read it, and write nothing."""

    def write_text(self, name: str, text: str) -> Path:
        return self.folder / name


class _Sum(torch.autograd.Function):
    """y_j = sum_i x_i in every process j, and backwards dx_i = sum_j dy_j."""

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
    """BatchNorm with mean and variance of the images of all processes, on any device (PyTorch's needs a GPU)."""

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
    """Let every BatchNorm of a network see the images of all processes, so that they train as one process does."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                new = SynchronisedBatchNorm2d(child.num_features, child.eps, child.momentum).to(child.weight)
                new.load_state_dict(child.state_dict())
                setattr(module, name, new)
