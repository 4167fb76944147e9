"""The network that contains every cell of a search space: its weights are one flat vector."""

from hdarts.supernet.mixture import Mixture
from hdarts.supernet.supernet import Supernet

__all__ = ["Mixture", "Supernet"]
