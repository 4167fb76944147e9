"""Propose the batch size of a search that fits into memory. It changes results, so nothing sets it by itself."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import torch

from hdarts.errors import ParameterError
from hdarts.params import SearchParams, read_yaml
from hdarts.runs.device import use_machine
from hdarts.runs.memory import peak_memory
from hdarts.runs.paths import with_defaults
from hdarts.search import batches, load_splits, make_supernet, method_hypergradient
from hdarts.search.loop import phases, training_alpha
from hdarts.search.state import State
from hdarts.search.weights import Classification

PROBES = (16, 48)  # batch sizes whose memory is measured; from there it grows with the images
MARGIN, MULTIPLE = 0.8, 16  # share of the free memory to use; the proposal is a multiple of so many


@dataclass(frozen=True)
class StepMemory:
    """What a step needs, in GiB: `fixed`, and so much `an_image`; `free` is what there is beside it now."""

    fixed: float
    an_image: float
    free: float
    most: int  # as many as the smaller part of the training images holds

    @property
    def batch_size(self) -> int:
        """The largest multiple of `MULTIPLE` that leaves a margin; 0 where none fits."""
        fits = int((MARGIN * self.free - self.fixed) / self.an_image) if self.an_image > 0 else self.most
        return max(0, min(fits, self.most) // MULTIPLE * MULTIPLE)

    def __str__(self) -> str:
        need = f"a step needs {self.fixed:.2f} GiB and {1024 * self.an_image:.1f} MiB an image"
        need += f", {self.free:.1f} GiB are free"
        if not self.batch_size:
            return f"not even {MULTIPLE} images fit: {need}"
        return f"batch_size {self.batch_size} fits: {need}. It changes results: set it in the parameters yourself"


def propose_batch_size(file: Path) -> StepMemory:
    """Measure a step of the search that a parameter file describes, at two small batch sizes."""
    params = with_defaults(SearchParams, {**read_yaml(file), "batch_size": PROBES[0]})
    if params.method == "random":
        raise ParameterError(f"{file}: a random cell takes no step")
    device = use_machine(params)
    data = load_splits(params, device)
    problem = Classification(make_supernet(params, data), params.precision)
    most = min(map(len, (data.train, data.validation)))  # type: ignore[arg-type]
    if most < PROBES[1]:
        raise ParameterError(f"{file}: {most} images of a level are fewer than the {PROBES[1]} that are measured with")
    free, before, peaks = _free(device), peak_memory(str(device)), []
    state = State.fresh(params, problem.supernet, None, device)
    phase = phases(problem, state, partial(method_hypergradient, params), params.learning_rate)
    for size in PROBES:
        inner, outer = (
            next(part.epoch(0, "batch size", 0))
            for part in batches(params.model_copy(update={"batch_size": size}), data)
        )
        phase.hypergradient.function(inner, outer)
        phase.weight_step.function(inner, *training_alpha(params, state))
        peaks.append((peak_memory(str(device)) - before) / 1024)
    an_image = max(0.0, (peaks[1] - peaks[0]) / (PROBES[1] - PROBES[0]))
    return StepMemory(max(0.0, peaks[0] - PROBES[0] * an_image), an_image, free, most)


def _free(device: torch.device) -> float:
    found = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    return found / 2**30
