"""The stem of a network, and the place of a cell in it."""

from collections.abc import Sequence
from dataclasses import dataclass

from hdarts.errors import ParameterError

RESIDUAL = "residual"  # the fixed block between two stages of NAS-Bench-201; not a kind of cell of the space


@dataclass(frozen=True)
class CellPlan:
    """Place of one cell in the network: its kind, the channels of its two inputs and of its operations."""

    kind: str
    previous_previous: int
    previous: int
    channels: int
    after_reduction: bool  # whether the first input's maps are twice as large: after a reduction cell or ImageNet stem

    @property
    def reduces(self) -> bool:
        """Whether it halves the size of the maps: a reduction cell, or a residual block between two stages."""
        return self.kind in ("reduce", RESIDUAL)

    @property
    def stride(self) -> int:
        """Stride of the operations that leave the cell's inputs."""
        return 2 if self.reduces else 1


def stem_widths(stem: str, channels: int, multiplier: int) -> tuple[int, ...]:
    """Return the channels after each convolution of a stem, of 3x3 pixels; C = `channels` is that of the first cell.

    cifar: one of stride 1, to `multiplier` C channels. imagenet: three of stride 2, to C / 2, C and C channels (Liu et
    al., DARTS); the last two outputs are the inputs of the first cell. Raises `ParameterError` for an odd C.
    """
    if stem != "imagenet":
        return (multiplier * channels,)
    if channels % 2:
        raise ParameterError(f"channels = {channels}: is odd, and stem: imagenet begins with half of them")
    return channels // 2, channels, channels


def sizes_after_stem(cells: Sequence[CellPlan], size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return height and width of both inputs of the first cell, for images of this size; an odd length is rounded up.

    After the ImageNet stem they are a quarter and an eighth of those of the images.
    """
    shrunk = [(-(-size[0] // by), -(-size[1] // by)) for by in (4, 8)]
    return shrunk if cells[0].after_reduction else [size, size]


def check_size(stem: str, shape: Sequence[int]) -> None:
    """Raise `ParameterError` for images `(C, H, W)` that a stem leaves too small: fewer than 4x4 of 32x32 pixels."""
    if stem == "imagenet" and min(shape[1:]) < 32:
        size = f"{shape[2]}x{shape[1]}"
        raise ParameterError(f"stem: imagenet needs images of 32x32 pixels or more, not {size}; set stem: cifar")
