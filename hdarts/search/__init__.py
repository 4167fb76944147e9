"""Architecture search: `search`, the loop; its parts, replaceable by own objects; its state and its tables."""

from hdarts.search.log import alpha_at, entropies
from hdarts.search.loop import part_of, search, weight_rate
from hdarts.search.setup import (
    batches,
    load_splits,
    make_hypergradient,
    make_hypernetwork,
    make_supernet,
    make_weights,
)
from hdarts.search.state import State

__all__ = [
    "State",
    "alpha_at",
    "batches",
    "entropies",
    "load_splits",
    "make_hypergradient",
    "make_hypernetwork",
    "make_supernet",
    "make_weights",
    "part_of",
    "search",
    "weight_rate",
]
