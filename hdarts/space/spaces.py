"""The search spaces: which edges a cell has, and which operations stand on each of them."""

from dataclasses import dataclass

from hdarts.errors import ParameterError


@dataclass(frozen=True)
class SearchSpace:
    """A cell as a graph: which edges there are, and which operations stand on each of them.

    `inputs` nodes (0, 1, ...) are given to a cell, `nodes` nodes are computed in it; every computed node has an edge
    from each earlier node. A cell puts out its last `outputs` nodes, side by side; the stem has `stem` times the
    channels of the first cell. `alpha` of the space has the shape `(kinds, edges, operations)`.

    A custom space is like DARTS with another number of `nodes` and other `operations`, the first of them `none`.
    """

    name: str
    kinds: tuple[str, ...]
    inputs: int
    nodes: int
    operations: tuple[str, ...]
    outputs: int
    stem: int

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All (source, node), ordered by node, then source: the rows of `alpha`."""
        computed = range(self.inputs, self.inputs + self.nodes)
        return tuple((source, node) for node in computed for source in range(node))

    @property
    def alpha_shape(self) -> tuple[int, int, int]:
        """`(kinds, edges, operations)`."""
        return len(self.kinds), len(self.edges), len(self.operations)

    @property
    def n_alpha(self) -> int:
        """Number of architecture parameters of one kind of cell: edges x operations (112 in DARTS)."""
        return len(self.edges) * len(self.operations)


DARTS = SearchSpace(
    name="darts",
    kinds=("normal", "reduce"),
    inputs=2,
    nodes=4,
    operations=(
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
    outputs=4,
    stem=3,
)
NASBENCH201 = SearchSpace(
    name="nasbench201",
    kinds=("cell",),
    inputs=1,
    nodes=3,
    operations=("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    outputs=1,
    stem=1,
)
SPACES = {space.name: space for space in (DARTS, NASBENCH201)}
MOST_NODES = 32  # of a custom space


def check_space(space: SearchSpace) -> None:
    """Raise `ParameterError` unless a network can be built of the space: one of `SPACES`, or a custom one."""
    if space in SPACES.values():
        return
    fixed = {name: getattr(DARTS, name) for name in ("kinds", "inputs", "stem")} | {"outputs": space.nodes}
    wrong = next((f"{name} has to be {value}" for name, value in fixed.items() if getattr(space, name) != value), "")
    if space.name in SPACES:
        wrong = "the name is taken"
    elif not 1 <= space.nodes <= MOST_NODES:
        wrong = f"nodes has to be from 1 to {MOST_NODES}"
    elif len(set(space.operations)) < max(2, len(space.operations)) or space.operations[0] != "none":
        wrong = "operations have to be `none` and then at least one other, each once"
    if wrong:
        raise ParameterError(f"space {space.name}: {wrong}")
