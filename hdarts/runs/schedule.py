"""Schedules of a learning rate."""

import math


def cosine(highest: float, lowest: float, epoch: float, epochs: int) -> float:
    """Return the learning rate of `epoch` (0 is the first of `epochs`): half a cosine from `highest` to `lowest`."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2
