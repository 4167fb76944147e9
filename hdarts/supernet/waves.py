"""Waves: the edges of a cell that can be computed together."""

from collections.abc import Iterator
from dataclasses import dataclass

from hdarts.space import RESIDUAL, CellPlan, SearchSpace
from hdarts.space.operations import Block, blocks


@dataclass(frozen=True)
class Wave:
    """The edges that leave `sources`, nodes known at the same time, ordered by source, then node."""

    sources: tuple[int, ...]
    nodes: tuple[int, ...]  # the targets of the edges of each source
    stride: int  # of all its edges

    @property
    def edges(self) -> list[tuple[int, int]]:
        return [(source, node) for source in self.sources for node in self.nodes]

    def operations(self, space: SearchSpace) -> Iterator[tuple[str, tuple[Block, ...]]]:
        """Yield name and blocks of the operations that have convolutions."""
        for operation in space.operations:
            if steps := blocks(operation, self.stride):
                yield operation, steps


def waves(space: SearchSpace, cell: CellPlan) -> tuple[Wave, ...]:
    """Return the waves of a cell: first its inputs together, then each of its nodes; a residual block has none."""
    if cell.kind == RESIDUAL:
        return ()
    end = space.inputs + space.nodes
    first = Wave(tuple(range(space.inputs)), tuple(range(space.inputs, end)), cell.stride)
    return first, *(Wave((node,), tuple(range(node + 1, end)), 1) for node in range(space.inputs, end - 1))
