"""Batches of images, augmented and normalised by a handful of tensor operations on the device that holds them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from hdarts.data.splits import Images
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator


@dataclass(frozen=True)
class Augmentation:
    """Random crop after zero padding, horizontal flip, and cutout (DeVries and Taylor 2017), as DARTS trains with.

    crop_padding: black pixels added on each side before a crop of the image's own size; 0 is no crop.
    flip: mirror half of the images.
    cutout: side of the square of zeros, put on the normalised image around a random pixel and clipped at its border;
    0 is none.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("crop_padding", "cutout"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} is {getattr(self, name)} and has to be 0 or more")

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return `(5, count)` int64: top and left of the crop, mirrored or not, row and column of the cutout."""
        shifts = 2 * self.crop_padding + 1
        bounds = (shifts, shifts, 2 if self.flip else 1, height, width)
        return torch.stack([torch.randint(bound, (count,), generator=generator) for bound in bounds])

    def crop_and_flip(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Return `pixels` `(B, H, W, C)` moved by `draws`; what comes from outside the image is black.

        One gather of whole pixels: row i and column j of the result are row `top + i` and column `left + j` of the
        padded image, or column `left + W - 1 - j` of a mirrored one.
        """
        if not (self.crop_padding or self.flip):
            return pixels
        count, height, width, channels = pixels.shape
        pad = self.crop_padding
        padded = torch.nn.functional.pad(pixels, (0, 0, pad, pad, pad, pad))
        top, left, mirrored = draws[:3, :, None]
        image, row, column = (torch.arange(size, device=pixels.device) for size in (count, height, width))
        rows = image[:, None] * (height + 2 * pad) + top + row  # (B, H)
        columns = left + torch.where(mirrored > 0, width - 1 - column, column)  # (B, W)
        where = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
        return padded.reshape(-1, channels).index_select(0, where.flatten()).view(pixels.shape)

    def cut(self, x: Tensor, draws: Tensor) -> Tensor:
        """Return normalised images `(B, H, W, C)`, 0 where row and column are in `[centre - side // 2, ... + side)`.

        `x` is overwritten.
        """
        if not self.cutout:
            return x
        _, height, width, channels = x.shape

        def outside(centre: Tensor, size: int) -> Tensor:
            offset = torch.arange(size, device=x.device) - centre[:, None] + self.cutout // 2
            return ((offset < 0) | (offset >= self.cutout)).to(x.dtype)

        # Columns and channels as one axis: several times as fast on the CPU as broadcasting over an axis of 3.
        rows = outside(draws[3], height)[:, :, None]
        columns = outside(draws[4], width).repeat_interleave(channels, dim=1)[:, None, :]
        return x.flatten(2).mul_(rows.maximum(columns)).view(x.shape)


@dataclass(frozen=True, eq=False)
class Batches:
    """Shuffled batches of `images`: step s of an epoch is a function of (seed, purpose, epoch, s) only.

    So `epoch(..., start=k)` yields exactly what the k-th and later batches of the whole pass are. A batch is
    `(x, y)`: x `(B, C, H, W)` float32, normalised, channels last in memory; y `(B,)` int64. With `drop_last` an
    epoch leaves out the images that fill no whole batch, and all shapes are static. With `share` (i, n) they are the
    i-th n-th of each batch: what one of n processes takes.
    """

    images: Images
    batch_size: int
    augmentation: Augmentation = Augmentation()
    drop_last: bool = True
    share: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size <= len(self.images):
            raise ParameterError(
                f"batch_size is {self.batch_size} and has to be from 1 to {len(self.images)}, the number of images"
            )

    def __len__(self) -> int:
        """Return the number of steps of an epoch."""
        count = len(self.images)
        return count // self.batch_size if self.drop_last else -(-count // self.batch_size)

    def offset(self, step: int) -> tuple[int, int]:
        """Return the position of this share's first image in the whole batch of a step, and the size of that batch."""
        whole = min(self.batch_size, len(self.images) - step * self.batch_size)
        return whole * self.share[0] // self.share[1], whole

    def epoch(self, seed: int, purpose: str, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one pass from step `start` on."""
        if not 0 <= start <= len(self):
            raise ParameterError(f"start is {start} and has to be from 0 to {len(self)}, the steps of an epoch")
        order = torch.randperm(len(self.images), generator=generator(seed, purpose, "order", epoch))
        order = order.to(self.images.labels.device)
        whole = order.split(self.batch_size)[start : len(self)]
        parts = [rows[self._part(len(rows))] for rows in whole]
        steps = zip(whole, parts, self.images.taken(parts), strict=True)
        for step, (rows, part, pixels) in enumerate(steps, start):
            draws = self._draws(len(rows), generator(seed, purpose, "augmentation", epoch, step))
            yield self._augmented(pixels, draws), self.images.labels.index_select(0, part)

    def endless(self, seed: int, purpose: str) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch 0, 1, ... without end."""
        for epoch in itertools.count():
            yield from self.epoch(seed, purpose, epoch)

    def _part(self, count: int) -> slice:
        """The share of a batch of so many images."""
        rank, shares = self.share
        return slice(count * rank // shares, count * (rank + 1) // shares)

    def _draws(self, count: int, generator: torch.Generator) -> Tensor:
        """How the images of this share are augmented, drawn for the whole batch."""
        draws = self.augmentation.draw(count, *self.images.shape[1:], generator)[:, self._part(count)]
        return draws.to(self.images.labels.device, non_blocking=True)

    def _augmented(self, pixels: Tensor, draws: Tensor) -> Tensor:
        x = _normalise(self.augmentation.crop_and_flip(pixels, draws), self.images)
        return self.augmentation.cut(x, draws).permute(0, 3, 1, 2)


def in_order(images: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order, not augmented, in batches as those of `Batches`; the last may be short."""
    if batch_size < 1:
        raise ParameterError(f"batch_size is {batch_size} and has to be 1 or more")
    rows = torch.arange(len(images), device=images.labels.device).split(batch_size)
    for pixels, labels in zip(images.taken(rows), images.labels.split(batch_size), strict=True):
        yield _normalise(pixels, images).permute(0, 3, 1, 2), labels


def _normalise(pixels: Tensor, images: Images) -> Tensor:
    """Return `(pixels / 255 - mean) / std`, `(B, H, W, C)` float32."""
    width = pixels.shape[2]
    # Columns and channels as one axis: several times as fast on the CPU as broadcasting over an axis of 3.
    scale, shift = (1 / (255 * images.std)).repeat(width), (-images.mean / images.std).repeat(width)
    return pixels.flatten(2).float().mul_(scale).add_(shift).view(pixels.shape)
