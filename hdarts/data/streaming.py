"""Images that stay in their files: worker processes of PyTorch's DataLoader read and decode them batch by batch.

`Batches` selects and augments them; its batches are the same as for images in memory.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hdarts.data.decode import DamagedImage, ImageFilter, load_pixels
from hdarts.data.raw import RawImages
from hdarts.errors import ParameterError
from hdarts.runs.signals import REQUESTS

CHUNK = 64  # images that a worker reads before it returns them


@dataclass(frozen=True, eq=False)
class StreamedImages:
    """Image files in place of the pixels of `Images`: `(N, C, H, W)` uint8, read for each batch.

    files: paths `(N,)` as bytes, one array that worker processes share; size: as for `read`; workers: processes that
    read, 0 for none but this one; image_shape: channels, height and width of every image.
    """

    files: np.ndarray
    size: int
    workers: int
    image_shape: tuple[int, int, int]
    converted: int = 0  # channels that images are converted to; 0: none are

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Tensor) -> "StreamedImages":
        return replace(self, files=self.files[rows.numpy()])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the pixels as a tensor, (N, C, H, W)."""
        return (len(self), *self.image_shape)

    def expand(self, n: int, channels: int, height: int, width: int) -> "StreamedImages":
        """Return grey images with so many channels; the other sizes are -1, as for a tensor."""
        return replace(self, image_shape=(channels, *self.image_shape[1:]))

    def to(self, device: str | torch.device) -> "StreamedImages":
        """Return `self`: pixels are copied to a device when they are read."""
        return self

    def pixel_batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels `(B, H, W, C)` uint8 of each batch of rows; raise `ParameterError` for damaged files."""
        for pixels in _map(_Pixels(self), [some.cpu() for some in rows], self.workers):
            if isinstance(pixels, str):
                raise ParameterError(pixels)
            yield torch.from_numpy(pixels)


def scan(
    images: RawImages, *, size: int, channels: int, skip_damaged: bool, workers: int
) -> tuple[StreamedImages, ImageFilter]:
    """Check every file of `images` once; return the same as `read`, with the pixels left in their files.

    Raises ParameterError as `read` does, and for images that are not single files.
    """
    files = np.array([os.fsencode(item) for item in require_files(images)])
    accepted, chunks = ImageFilter(skip_damaged), torch.arange(len(files)).split(CHUNK)
    shapes: list[tuple[int, ...] | str] = []
    for some, noted in _map(_Shapes(files, size, channels), chunks, workers):
        shapes += some
        accepted.noted += noted
    for row, shape in enumerate(shapes):
        accepted.add(row, os.fsdecode(files[row]), shape)
    accepted.require_images()
    height, width, deepest = accepted.shape
    return StreamedImages(files[accepted.kept], size, workers, (deepest, height, width), channels), accepted


def require_files(images: RawImages) -> Iterator[Path]:
    """Yield the files of images; raise `ParameterError` where they are not single files."""
    for _, item in images.all():
        if not isinstance(item, Path):
            raise ParameterError("stream: true is for images in single files; other sets are read into memory")
        yield item


def _map(dataset: Any, keys: Sequence[Tensor], workers: int) -> Iterator[Any]:
    """Yield `dataset[key.numpy()]` for each key in order; workers compute ahead.

    Keys and values are NumPy arrays, which travel through pipes: tensors would need shared memory, of which containers
    have 64 MB, and beyond that a worker dies of a bus error.
    """
    options = {"num_workers": workers, "worker_init_fn": _ignore_requests, "generator": torch.Generator()}
    return iter(
        DataLoader(dataset, batch_size=None, sampler=[key.numpy() for key in keys], collate_fn=_identity, **options)
    )


def _ignore_requests(number: int) -> None:
    """Ignore requests to stop, which reach all processes: the main one saves and then ends its workers."""
    if hasattr(os, "setsid"):
        os.setsid()
    for request in REQUESTS:
        signal.signal(request, signal.SIG_DFL if request == signal.SIGTERM else signal.SIG_IGN)


def _identity(value: Any) -> Any:
    return value


def _load_file(file: bytes, size: int, channels: int, noted: Counter[str] | None = None) -> np.ndarray:
    path = Path(os.fsdecode(file))
    return load_pixels(str(path), path, size, channels, noted)


@dataclass(frozen=True)
class _Shapes:
    """Map rows to the shape of each image, or the sentence that says how it is damaged; and count what was done."""

    files: np.ndarray
    size: int
    channels: int

    def __getitem__(self, rows: np.ndarray) -> tuple[list[tuple[int, ...] | str], Counter[str]]:
        noted = Counter[str]()
        return [self._shape(file, noted) for file in self.files[rows].tolist()], noted

    def _shape(self, file: bytes, noted: Counter[str]) -> tuple[int, ...] | str:
        try:
            return _load_file(file, self.size, self.channels, noted).shape
        except DamagedImage as error:
            return str(error)


@dataclass(frozen=True)
class _Pixels:
    """Map rows to pixels `(B, H, W, C)` uint8, an array, or to the sentence that says which image is damaged."""

    images: StreamedImages

    def __getitem__(self, rows: np.ndarray) -> np.ndarray | str:
        channels, height, width = self.images.image_shape
        pixels = np.empty((len(rows), height, width, channels), np.uint8)
        for target, file in zip(pixels, self.images.files[rows].tolist(), strict=True):
            try:
                image = _load_file(file, self.images.size, self.images.converted)
                if image.shape[:2] != target.shape[:2] or image.shape[2] > channels:
                    raise DamagedImage(f"{os.fsdecode(file)}: has another size than when the run started")
            except DamagedImage as error:
                return str(error)
            target[:] = image  # a grey image fills three channels where others have colour
        return pixels
