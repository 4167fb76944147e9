"""From the weights of a supernet to those of one whose operations work on more channels (progressive DrNAS)."""

import torch
from torch import Tensor

from hdarts.supernet.supernet import Supernet


class Widening:
    """The map of vectors `(n_w,)` from a supernet with more groups of channels to one that has fewer, else the same.

    As in Net2Net (Chen et al., ICLR 2016) the channels that an operation gains are copies of some of its channels,
    drawn at random: rows of a convolution for its outputs, columns for its inputs. A pointwise convolution reads the
    copies that the depthwise one before it makes; elsewhere inputs are drawn anew, and columns are not divided by the
    number of copies, as in the code of DrNAS (Chen et al., ICLR 2021). The function of the network
    therefore changes a little. The velocity of the weights is mapped in the same way.
    """

    def __init__(self, narrow: Supernet, wide: Supernet, generator: torch.Generator):
        self.before, self.after = narrow.layout, wide.layout
        self.copied: dict[str, tuple[Tensor, Tensor]] = {}  # name: rows, columns
        made: dict[str, Tensor] = {}  # by operation: the outputs of its depthwise convolution
        for name, old, new in zip(self.after.names, self.before.shapes, self.after.shapes, strict=True):
            if old == new:
                continue
            operation, (rows, columns) = name.rpartition(".")[0], (old[0], old[1])
            out = _copied(rows, new[0], generator)
            inputs = made.pop(operation, None)
            if columns == new[1]:  # depthwise
                inputs, made[operation] = torch.arange(columns), out
            self.copied[name] = out, _copied(columns, new[1], generator) if inputs is None else inputs

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the wide vector of a narrow one."""
        named = dict(self.before.unpack(vector))
        for name, (rows, columns) in self.copied.items():
            named[name] = named[name][rows.to(vector.device)][:, columns.to(vector.device)]
        return self.after.pack(named)


def _copied(old: int, new: int, generator: torch.Generator) -> Tensor:
    return torch.cat([torch.arange(old), torch.randint(old, (new - old,), generator=generator)])
