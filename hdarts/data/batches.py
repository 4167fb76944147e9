"""Batches of images, augmented and normalised by a few tensor operations on the device of the images."""

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
    """Random crop after zero padding, horizontal flip, and cutout (DeVries and Taylor 2017), as in DARTS.

    crop_padding: black pixels added on each side before a crop to the size of the image; 0: no crop.
    flip: mirror half of the images.
    cutout: side of the square of the normalised image that is set to 0, around a random pixel and clipped at the
    border; 0: none.
    """

    crop_padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("crop_padding", "cutout"):
            if getattr(self, name) < 0:
                raise ParameterError(f"{name} is {getattr(self, name)} and has to be 0 or more")

    def require_fit(self, height: int, width: int) -> None:
        """Refuse a cutout or a crop that can leave nothing of an image."""
        least = min(height, width)
        for name, most in (("cutout", least), ("crop_padding", least - 1)):
            if getattr(self, name) > most:
                what = f"{name} is {getattr(self, name)}"
                raise ParameterError(f"{what} and has to be at most {most} for images of {width}x{height} pixels")

    def draw(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Draw `(5, count)` int64: top and left of the crop, mirrored or not, row and column of the cutout."""
        shifts = 2 * self.crop_padding + 1
        bounds = (shifts, shifts, 2 if self.flip else 1, height, width)
        return torch.stack([torch.randint(bound, (count,), generator=generator) for bound in bounds])

    def crop_and_flip(self, pixels: Tensor, draws: Tensor) -> Tensor:
        """Return `pixels` `(B, H, W, C)` cropped and mirrored by `draws`; pixels from outside the image are black.

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
        source = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
        return padded.reshape(-1, channels).index_select(0, source.flatten()).view(pixels.shape)

    def cut(self, x: Tensor, draws: Tensor) -> Tensor:
        """Set `x` `(B, H, W, C)` to 0 in rows and columns `[centre - side // 2, ... + side)`, in place."""
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


def count_batches(images: int, batch_size: int, drop_last: bool, processes: int = 1) -> int:
    """Return the number of batches in one pass over `images`.

    With `drop_last`, the images of a last short batch are left out. Otherwise they are only if that batch has fewer
    than two images per process, whose BatchNorm cannot normalise a single value per channel.
    """
    whole, rest = divmod(images, batch_size)
    return whole + int(not drop_last and rest >= 2 * processes)


@dataclass(frozen=True, eq=False)
class Batches:
    """Shuffled batches of `images`: step s of an epoch is a function of (seed, purpose, epoch, s) only.

    So `epoch(..., start=k)` yields exactly the k-th and later batches of the whole pass. A batch is `(x, y)`:
    x `(B, C, H, W)` float32, normalised, channels last in memory; y `(B,)` int64. `drop_last`: see `count_batches`.
    With `share` (i, n), each batch is the i-th of n equal parts of the whole one, for the i-th of n processes.
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
        self.augmentation.require_fit(*self.images.shape[1:])

    def __len__(self) -> int:
        return count_batches(len(self.images), self.batch_size, self.drop_last, self.share[1])

    def offset(self, step: int) -> tuple[int, int]:
        """Return the position of this share's first image in the whole batch of a step, and the size of that batch."""
        whole = min(self.batch_size, len(self.images) - step * self.batch_size)
        return whole * self.share[0] // self.share[1], whole

    def epoch(
        self, seed: int, purpose: str, epoch: int, start: int = 0, number: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one pass from step `start` on; `number` counts the passes of an epoch with several."""
        if not 0 <= start <= len(self):
            raise ParameterError(f"start is {start} and has to be from 0 to {len(self)}, the steps of an epoch")
        at = (epoch, number) if number else (epoch,)
        order = torch.randperm(len(self.images), generator=generator(seed, purpose, "order", *at))
        order = order.to(self.images.labels.device)
        whole = order.split(self.batch_size)[start : len(self)]
        shares = [rows[self._share(len(rows))] for rows in whole]
        draws = [torch.zeros(5, 0, dtype=torch.int64)]
        for step, rows in enumerate(whole, start):
            source = generator(seed, purpose, "augmentation", *at, step)
            draws.append(self.augmentation.draw(len(rows), *self.images.shape[1:], source)[:, self._share(len(rows))])
        parts = torch.cat(draws, 1).to(order.device)  # one copy per epoch
        parts = parts.split([len(rows) for rows in shares], 1)
        for share, pixels, part in zip(shares, self.images.pixel_batches(shares), parts, strict=True):
            yield self._augmented(pixels, part), self.images.labels.index_select(0, share)

    def repeated(self, seed: int, purpose: str, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch from step `start` on without end: one freshly shuffled pass after another."""
        for number in itertools.count(start // len(self)):
            yield from self.epoch(seed, purpose, epoch, start % len(self), number)
            start = 0

    def _share(self, count: int) -> slice:
        """Return the share's images of a whole batch of `count`."""
        rank, shares = self.share
        return slice(count * rank // shares, count * (rank + 1) // shares)

    def _augmented(self, pixels: Tensor, draws: Tensor) -> Tensor:
        x = _normalise(self.augmentation.crop_and_flip(pixels, draws), self.images)
        return self.augmentation.cut(x, draws).permute(0, 3, 1, 2)


def in_order(images: Images, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order and not augmented, in batches like those of `Batches`; the last may be short."""
    if batch_size < 1:
        raise ParameterError(f"batch_size is {batch_size} and has to be 1 or more")
    rows = torch.arange(len(images), device=images.labels.device).split(batch_size)
    for pixels, labels in zip(images.pixel_batches(rows), images.labels.split(batch_size), strict=True):
        yield _normalise(pixels, images).permute(0, 3, 1, 2), labels


def _normalise(pixels: Tensor, images: Images) -> Tensor:
    """Return `(pixels / 255 - mean) / std`, `(B, H, W, C)` float32."""
    width = pixels.shape[2]
    # Columns and channels as one axis: several times as fast on the CPU as broadcasting over an axis of 3.
    scale, shift = (1 / (255 * images.std)).repeat(width), (-images.mean / images.std).repeat(width)
    return pixels.flatten(2).float().mul_(scale).add_(shift).view(pixels.shape)
