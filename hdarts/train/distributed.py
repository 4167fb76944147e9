"""One training on several processes: each takes its share of every batch, and together they take one step.

    loss = sum over processes i of (n_i / n) (mean loss of its n_i images)      n images in the whole batch

PyTorch's DistributedDataParallel averages gradients over the processes, so each multiplies its loss by their number:
the gradient is that of the whole batch, and learning rate and schedule are those of one process.

Only BatchNorm differs from training in one process. Each process normalises by its own share of a batch, and the
running statistics are those of the first; `synchronise_batch_norm` makes both those of the whole batch.

A resumed training gives the same bits as an uninterrupted one. DDP would regroup the gradients after its first step,
and on three or more processes the order of a sum depends on the group; with `find_unused_parameters` it does not. DDP
then warns once per process that there are no unused parameters.
"""

import torch
from torch import Tensor, nn

from hdarts.runs.processes import common_moments


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm with mean and variance over the images of all processes.

    `torch.nn.SyncBatchNorm` refuses tensors on the CPU, where this is tested; one class serves both devices.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        centred, mean, variance, count = common_moments(x.to(self.weight.dtype))
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
