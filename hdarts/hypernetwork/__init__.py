"""Hypernetworks: maps h(phi, alpha) -> weights, the cell weights of a supernet (thesis 4.4.2, eq. 18).

Each is a frozen dataclass whose weights are one flat vector `phi`.
"""

from hdarts.hypernetwork.by_kind import ByKind
from hdarts.hypernetwork.chunked import Chunked
from hdarts.hypernetwork.graph import Graph
from hdarts.hypernetwork.linear import Linear, LowRank
from hdarts.hypernetwork.mlp import ACTIVATIONS, MLP
from hdarts.hypernetwork.protocol import Hypernetwork

__all__ = ["ACTIVATIONS", "MLP", "ByKind", "Chunked", "Graph", "Hypernetwork", "Linear", "LowRank"]
