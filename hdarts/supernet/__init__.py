"""The network that contains every cell of a search space: its weights are one flat vector."""

from hdarts.supernet.supernet import Supernet

__all__ = ["Supernet"]
