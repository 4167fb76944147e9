"""Images that stay in their files: worker processes of PyTorch's DataLoader read and decode them batch by batch.

What a batch holds is the same as of images in memory: which images, and how they are augmented, is decided elsewhere.
"""

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hdarts.data.decode import Damaged, Part, Sieve, fitted
from hdarts.errors import ParameterError
from hdarts.runs.signals import REQUESTS

TOGETHER = 64  # images that a worker looks at before it tells of them


@dataclass(frozen=True, eq=False)
class Streamed:
    """Image files in place of the pixels of `Images`: `(N, C, H, W)` uint8, read when a pass over them asks.

    files: paths `(N,)` as bytes, one array that worker processes share; size: as of `read`; channels, height and width
    of all images; workers: processes that read, 0 for none beside this one.
    """

    files: np.ndarray
    size: int
    workers: int
    form: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Tensor) -> "Streamed":
        return replace(self, files=self.files[rows.numpy()])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of a tensor of the pixels: (N, C, H, W)."""
        return (len(self), *self.form)

    def expand(self, n: int, channels: int, height: int, width: int) -> "Streamed":
        """Return grey images with so many channels; as of a tensor, -1 leaves a size as it is."""
        return replace(self, form=(channels, *self.form[1:]))

    def to(self, device: str | torch.device) -> "Streamed":
        """Return itself: the pixels of a batch go to a device when they are read."""
        return self

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels `(B, H, W, C)` uint8 of each batch of rows; what was damaged since is named."""
        for pixels in _passed(_Pixels(self), [some.cpu() for some in rows], self.workers):
            if isinstance(pixels, str):
                raise ParameterError(pixels)
            yield pixels


def streamed(
    part: Part, rows: Tensor, *, size: int, skip_damaged: bool, workers: int
) -> tuple[Streamed, Tensor, list[str]]:
    """Look at the image files of a part once; return what `read` does, pixels and refusals included, but leave them.

    Raises ParameterError as `read` does, and for images that are not files of their own.
    """
    refuse_unless_files(part)
    files = np.array([os.fsencode(item) for _, item in part.items(rows)])  # type: ignore[arg-type]
    sieve, some = Sieve(skip_damaged), torch.arange(len(files)).split(TOGETHER)
    seen = (shape for shapes in _passed(_Shapes(files, size), some, workers) for shape in shapes)
    for row, (file, shape) in enumerate(zip(files.tolist(), seen, strict=True)):
        sieve.keeps(row, os.fsdecode(file), shape)
    sieve.refuse_nothing()
    height, width, channels = sieve.form
    kept = Streamed(files[sieve.kept], size, workers, (channels, height, width))
    return kept, part.labels[rows][sieve.kept], sieve.damaged


def refuse_unless_files(part: Part) -> None:
    """Raise `ParameterError` where the images of a part are not files of their own."""
    if not isinstance(next(iter(part.items(torch.zeros(1, dtype=torch.int64))))[1], Path):
        raise ParameterError("stream: true is for a folder of images by class; other sets are read into memory")


def _passed(dataset: Any, keys: Sequence[Tensor], workers: int) -> Iterator[Any]:
    """Yield `dataset[key]` for each key in order, computed by workers ahead of the one that is asked for."""
    options = {"num_workers": workers, "worker_init_fn": _apart, "generator": torch.Generator()}
    return iter(DataLoader(dataset, batch_size=None, sampler=keys, collate_fn=_as_it_is, **options))


def _apart(number: int) -> None:
    """Leave a request to stop that goes to all processes to the one that trains, which saves first; it ends these."""
    os.setsid()
    for request in REQUESTS:
        signal.signal(request, signal.SIG_DFL if request == signal.SIGTERM else signal.SIG_IGN)


def _as_it_is(found: Any) -> Any:
    return found


def _image(file: bytes, size: int) -> np.ndarray:
    path = Path(os.fsdecode(file))
    return fitted(str(path), path, size)


@dataclass(frozen=True)
class _Shapes:
    """rows -> height, width and channels of each image, or the sentence that says why it is none."""

    files: np.ndarray
    size: int

    def __getitem__(self, rows: Tensor) -> list[tuple[int, ...] | str]:
        return [self._shape(file) for file in self.files[rows.numpy()].tolist()]

    def _shape(self, file: bytes) -> tuple[int, ...] | str:
        try:
            return _image(file, self.size).shape
        except Damaged as error:
            return str(error)


@dataclass(frozen=True)
class _Pixels:
    """rows -> pixels `(B, H, W, C)` uint8, or the sentence that says why there are none."""

    images: Streamed

    def __getitem__(self, rows: Tensor) -> Tensor | str:
        channels, height, width = self.images.form
        pixels = np.empty((len(rows), height, width, channels), np.uint8)
        for place, file in zip(pixels, self.images.files[rows.numpy()].tolist(), strict=True):
            try:
                image = _image(file, self.images.size)
                if image.shape[:2] != place.shape[:2] or image.shape[2] > channels:
                    raise Damaged(f"{os.fsdecode(file)}: has another size than when the run began")
            except Damaged as error:
                return str(error)
            place[:] = image  # grey ones three times where others have colour
        return torch.from_numpy(pixels)
