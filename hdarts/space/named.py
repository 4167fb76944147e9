"""The spaces that have a name, and the check of custom ones.

S1 to S4 are those in which DARTS fails (Zela et al., Understanding and Robustifying DARTS, ICLR 2020); the pairs of S1
are those of github.com/automl/RobustDARTS, src/spaces.py.
"""

from dataclasses import replace

from hdarts.errors import ParameterError
from hdarts.space.spaces import DARTS, NASBENCH201, SearchSpace

_SHORT = {
    **{"skip": "skip_connect", "max": "max_pool_3x3", "avg": "avg_pool_3x3"},
    **{"sep3": "sep_conv_3x3", "dil3": "dil_conv_3x3", "dil5": "dil_conv_5x5"},
}
_S1_NORMAL = """skip dil3, skip dil5, skip dil5, skip sep3, skip dil3, max skip, skip sep3, skip sep3, skip dil3,
    skip sep3, max skip, skip dil3, dil3 dil5, dil3 dil5"""
_S1_REDUCE = """max avg, max dil3, max avg, max avg, skip dil5, max avg, max sep3, skip dil3, skip dil5,
    max avg, max avg, skip dil5, skip dil5, skip dil5"""


def _without_none(space: SearchSpace, name: str, operations: tuple[str, ...] = ()) -> SearchSpace:
    """Return a space with other operations, of which `none` is no candidate."""
    operations = operations or space.operations
    candidates = ((operations[1:],) * len(space.edges),) * len(space.kinds)
    return replace(space, name=name, operations=operations, candidates=candidates)


def _pairs(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(_SHORT[name] for name in pair.split()) for pair in text.split(","))


SPACES = {
    space.name: space
    for space in (
        DARTS,
        NASBENCH201,
        _without_none(DARTS, "darts-no-none"),  # Wang et al., DARTS-PT; Chen et al., DrNAS (both ICLR 2021)
        _without_none(NASBENCH201, "nasbench201-no-none"),  # Li et al., GAEA, ICLR 2021
        replace(
            DARTS,
            name="s1",
            operations=tuple(name for name in DARTS.operations if name != "sep_conv_5x5"),
            candidates=(_pairs(_S1_NORMAL), _pairs(_S1_REDUCE)),
        ),
        _without_none(DARTS, "s2", ("none", "skip_connect", "sep_conv_3x3")),
        replace(DARTS, name="s3", operations=("none", "skip_connect", "sep_conv_3x3")),
        replace(DARTS, name="single-cell", kinds=("normal",), nodes=8),  # Sukthanker et al., confopt, AutoML 2025
        _without_none(DARTS, "s4", ("none", "noise", "sep_conv_3x3")),
    )
}
MAX_NODES = 32  # of a custom space


def space_of_cells(space: SearchSpace) -> SearchSpace:
    """Return the space that names the discrete cells of a space: `darts` or `nasbench201` where these have them."""
    base = NASBENCH201 if space.kinds == NASBENCH201.kinds else DARTS
    same = (space.kinds, space.nodes) == (base.kinds, base.nodes) and set(space.operations) <= set(base.operations)
    return base if space in SPACES.values() and same else space


def check_space(space: SearchSpace) -> None:
    """Raise `ParameterError` unless a network can be built of the space: one of `SPACES`, or a custom one."""
    if space in SPACES.values():
        return
    fixed = {name: getattr(DARTS, name) for name in ("kinds", "inputs", "stem")} | {"outputs": space.nodes}
    wrong = next((f"{name} has to be {value}" for name, value in fixed.items() if getattr(space, name) != value), "")
    if space.name in SPACES:
        wrong = "the name is taken"
    elif not 1 <= space.nodes <= MAX_NODES:
        wrong = f"nodes has to be from 1 to {MAX_NODES}"
    elif len(set(space.operations)) < max(2, len(space.operations)) or space.operations[0] != "none":
        wrong = "operations have to be `none` and then at least one other, each once"
    if wrong := wrong or _wrong_candidates(space):
        raise ParameterError(f"space {space.name}: {wrong}")


def _wrong_candidates(space: SearchSpace) -> str:
    if not space.candidates:
        return ""
    if [len(edges) for edges in space.candidates] != [len(space.edges)] * len(space.kinds):
        return f"candidates have to be names for each of {len(space.kinds)} kinds and {len(space.edges)} edges"
    for kind, edges in zip(space.kinds, space.candidates, strict=True):
        for (source, node), names in zip(space.edges, edges, strict=True):
            if unknown := [name for name in names if name not in space.operations]:
                return f"candidate {unknown[0]!r} of edge {source}-{node} ({kind}) is not one of its operations"
            if not set(names) - {"none"}:
                return f"edge {source}-{node} ({kind}) has no candidate besides `none`"
    return ""
