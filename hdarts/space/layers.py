"""The cells of a whole network in order, and their channels."""

from dataclasses import dataclass

from hdarts.errors import ParameterError
from hdarts.space.spaces import DARTS, NASBENCH201, SearchSpace

RESIDUAL = "residual"  # the block between two stages of NAS-Bench-201, fixed and no kind of cell of the space


@dataclass(frozen=True)
class CellPlan:
    """Place of one cell in the network: its kind, the channels of its two inputs, and its own."""

    kind: str
    previous_previous: int
    previous: int
    channels: int
    after_reduction: bool

    @property
    def reduces(self) -> bool:
        """Whether it halves the size of the maps: a reduction cell, or a residual block between two stages."""
        return self.kind in ("reduce", RESIDUAL)

    @property
    def stride(self) -> int:
        """Stride of the operations next to the cell's inputs."""
        return 2 if self.reduces else 1


def plan(channels: int, layers: int, space: SearchSpace = DARTS) -> list[CellPlan]:
    """Return the cells of a network in order.

    DARTS: `layers` cells, reduction cells at 1/3 and 2/3, channels doubled there (thesis 4.5). The stem has 3 C
    channels as in DARTS, and a cell puts out 4 times its channels. (The thesis's section 4.5 says that the stem has
    64; with C = 16, 48 fits the 1.93 million weights of the supernet, 64 does not.)

    NAS-Bench-201: three stages of `layers` cells, between them a residual block of stride 2 that doubles the channels.
    """
    if space is NASBENCH201:
        return _stages(channels, layers)
    if layers < 3:
        raise ParameterError(f"layers = {layers}: a network needs at least 3 cells, two of which are reduction cells")
    cells, previous_previous, previous, after = [], space.stem * channels, space.stem * channels, False
    for layer in range(layers):
        reduces = layer in (layers // 3, 2 * layers // 3)
        channels *= 2 if reduces else 1
        cells.append(CellPlan("reduce" if reduces else "normal", previous_previous, previous, channels, after))
        previous_previous, previous, after = previous, space.outputs * channels, reduces
    return cells


def _stages(channels: int, layers: int) -> list[CellPlan]:
    if layers < 1:
        raise ParameterError(f"layers = {layers}: a network of space {NASBENCH201.name} needs at least 1 cell a stage")
    cells, before = [], channels
    for stage in range(3):
        own = channels * 2**stage
        for kind in (*((RESIDUAL,) if stage else ()), *(NASBENCH201.kinds * layers)):
            cells.append(CellPlan(kind, before, before, own, bool(cells) and cells[-1].reduces))
            before = own
    return cells
