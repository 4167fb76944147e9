"""Schedules: of a learning rate, and of the parts of a search."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Tag, model_validator

from hdarts.params.types import NotNegative


def cosine(highest: float, lowest: float, epoch: float, epochs: int) -> float:
    """Return the learning rate of `epoch` (0 is the first of `epochs`): half a cosine from `highest` to `lowest`."""
    return lowest + (highest - lowest) * (1 + math.cos(math.pi * epoch / epochs)) / 2


def ramp(first: float, last: float, shape: str, epoch: int, epochs: int) -> float:
    """Return the value of `epoch` (0 is the first of `epochs`) between `first` and `last`.

    linear: `last` would be reached after the last epoch, t / T; to-last: in the last epoch, t / (T - 1); exponential:
    the same, geometrically; cosine: half a cosine, reached after the last epoch; quarter-cosine: the first half of it.
    """
    if shape == "cosine":
        return cosine(first, last, epoch, epochs)
    if shape == "quarter-cosine":
        return cosine(first, 2 * last - first, epoch, 2 * epochs)
    done = epoch / epochs if shape == "linear" else epoch / max(1, epochs - 1)
    return first * (last / first) ** done if shape == "exponential" else first + (last - first) * done


class Ramp(BaseModel):
    """A number that changes by epoch, within its stage, from `first` to `last`; see `ramp`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    first: NotNegative
    last: NotNegative
    shape: Literal["linear", "to-last", "exponential", "cosine", "quarter-cosine"] = "linear"

    @model_validator(mode="after")
    def _is_defined(self) -> Self:
        if self.shape == "exponential" and not (self.first and self.last):
            raise ValueError("shape: exponential needs first and last above 0")
        return self


Schedule = Annotated[  # a number, or one that changes by epoch
    Annotated[NotNegative, Tag("number")] | Annotated[Ramp, Tag("ramp")],
    Discriminator(lambda value: "ramp" if isinstance(value, dict | Ramp) else "number"),
]


def value_at(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return the value of a schedule in an epoch (0 is the first of `epochs`)."""
    if isinstance(schedule, Ramp):
        return ramp(schedule.first, schedule.last, schedule.shape, epoch, epochs)
    return float(schedule)


def ever_positive(schedule: Schedule) -> bool:
    """Whether a schedule is above 0 at its start or end."""
    return max(schedule.first, schedule.last) > 0 if isinstance(schedule, Ramp) else schedule > 0
