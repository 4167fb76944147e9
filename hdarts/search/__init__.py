"""Architecture search: the loop `search`, the parts it is built from, its state, tables and result."""

from hdarts.search.log import alpha_at, entropies
from hdarts.search.loop import part_of, search, weight_rate
from hdarts.search.result import finish, summary
from hdarts.search.setup import (
    batches,
    epoch_steps,
    load_splits,
    make_hypernetwork,
    make_supernet,
    make_weights,
    method_hypergradient,
)
from hdarts.search.state import State

__all__ = [
    "State",
    "alpha_at",
    "batches",
    "entropies",
    "epoch_steps",
    "finish",
    "load_splits",
    "make_hypernetwork",
    "make_supernet",
    "make_weights",
    "method_hypergradient",
    "part_of",
    "search",
    "summary",
    "weight_rate",
]
