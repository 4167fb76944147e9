"""Architecture search: the loop `search`, the parts it is built from, its state, tables and result."""

from hdarts.search.custom import Parts
from hdarts.search.log import alpha_at, entropies, weights_at
from hdarts.search.loop import search, weight_rate
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
from hdarts.search.steps import part_of

__all__ = [
    "Parts",
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
    "weights_at",
]
