"""Propose a batch size that fits into memory. It changes results, so it is never set automatically."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hdarts.data import dataset_info
from hdarts.errors import ParameterError
from hdarts.params import SearchParams, read_yaml
from hdarts.runs.device import use_machine
from hdarts.runs.paths import with_defaults
from hdarts.workbook.study.probe import Probe, free_memory, measure_step

MEASURED, SECONDS = 48, 120  # the largest measured batch size, and the seconds for measuring
MARGIN, MULTIPLE = 0.8, 16  # share of the free memory to use; proposals are multiples of 16


@dataclass(frozen=True)
class StepMemory:
    """The memory of a step in GiB: `fixed` plus `per_image` for each image. `free` is what is available now."""

    fixed: float
    per_image: float
    free: float
    most: int  # images of the smaller part, training or validation

    @property
    def batch_size(self) -> int:
        """The largest multiple of `MULTIPLE` that leaves a margin; 0 if none fits."""
        fits = int((MARGIN * self.free - self.fixed) / self.per_image) if self.per_image > 0 else self.most
        return max(0, min(fits, self.most) // MULTIPLE * MULTIPLE)

    def __str__(self) -> str:
        need = f"a step needs {self.fixed:.2f} GiB plus {1024 * self.per_image:.1f} MiB per image"
        need += f", {self.free:.1f} GiB are free"
        if not self.batch_size:
            return f"not even {MULTIPLE} images fit: {need}"
        return f"batch_size {self.batch_size} fits: {need}. It changes results: set it in the parameters yourself"


def propose_batch_size(file: Path) -> StepMemory:
    """Measure steps of the search in a parameter file on small batches, and extrapolate their memory."""
    params = with_defaults(SearchParams, {**read_yaml(file), "batch_size": MEASURED})
    if params.method == "random":
        raise ParameterError(f"{file}: method random takes no steps")
    images = dataset_info(params.data, **params.source())
    most = min(images.train, images.validation)
    if most < MEASURED:
        raise ParameterError(f"{file}: a part has {most} images, fewer than the {MEASURED} that measuring needs")
    free = _free(use_machine(params))
    cost = measure_step(Probe(params, images, None, params.threads or torch.get_num_threads()), SECONDS)
    if isinstance(cost, str):
        raise ParameterError(f"{file}: no step could be measured: {cost}")
    per_image = cost.memory_per_image / 1024
    return StepMemory(max(0.0, cost.memory / 1024 - MEASURED * per_image), per_image, free, most)


def _free(device: torch.device) -> float:
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return free / 2**30
