"""The place of a cell in the whole network."""

from dataclasses import dataclass

RESIDUAL = "residual"  # the fixed block between two stages of NAS-Bench-201; not a kind of cell of the space


@dataclass(frozen=True)
class CellPlan:
    """Place of one cell in the network: its kind, the channels of its two inputs and of its operations."""

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
        """Stride of the operations that leave the cell's inputs."""
        return 2 if self.reduces else 1
