"""Check all that runs will need before a kernel starts: images, batch sizes, genotypes, memory."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.limits import memory_limit
from hdarts.runs.tensorboard import need_tensorboard
from hdarts.space import SPACES, plan
from hdarts.space.layers import check_size
from hdarts.workbook.study import PlannedRun
from hdarts.workbook.study.gpus import gpu_count
from hdarts.workbook.study.images import Params, info_of

if TYPE_CHECKING:
    from hdarts.data import DatasetInfo

FEW = 200  # steps of a run: fewer are hardly worth their start


def preflight(
    runs: Iterable[PlannedRun], before: Iterable[PlannedRun] = (), download: bool = True, here: bool = True
) -> list[str]:
    """Return what to tell about runs at their start; raise `ParameterError` naming the first that could not run.

    Decodes no image: of the parts that a run opens, names, labels and headers are read. `before`: runs that are done.
    Without `download`, the images of a set that is not on this machine yet are not checked. `here`: runs need the
    devices and the memory of this machine.
    """
    from hdarts.data.sources import NotDownloaded  # imports torch

    known: dict[str, DatasetInfo] = {}
    told: dict[str, None] = {}  # in order, each once
    stages: dict[str, list[tuple[int, int, float]]] = {}  # steps per epoch, steps, GiB
    sizes: dict[str, float] = {}  # GiB of the weights, by the parameters that decide
    runs = [*runs]
    by_name = {run.name: run for run in (*before, *runs)}
    if here:
        gpu_count(runs)  # raises for a device that is not here
    for run in runs:
        try:
            if getattr(run.params, "tensorboard", False):
                need_tensorboard()
            if not isinstance(run.params, Params) or getattr(run.params, "method", "") == "random":
                continue
            if isinstance(run.params, EvaluateParams):
                _check_cell(run, by_name)
                _check_parts(run.params, searches_of(run, by_name))
            info = info_of(run.params, known, download)
            told[f"images of {info.line}"] = None
            row = (*_check_steps(run, info), _check_memory(run, info, by_name, sizes, here))
            stages.setdefault(f"stage {run.stage}, {run.params.data}", []).append(row)
        except NotDownloaded as error:
            told[f"not checked: {error}"] = None
        except ParameterError as error:
            raise ParameterError(f"run {run.name}: {error}") from None
    return [*told, *(_line(stage, rows) for stage, rows in stages.items())]


def _line(stage: str, rows: list[tuple[int, int, float]]) -> str:
    """Return what the runs of a stage have, from the least to the most."""
    steps, total, memory = (
        " to ".join(dict.fromkeys(f"{value:.2g}" if isinstance(value, float) else str(value) for value in ends))
        for ends in ((min(column), max(column)) for column in zip(*rows, strict=True))
    )
    few = f" (fewer than {FEW} are few)" if min(total for _, total, _ in rows) < FEW else ""
    return f"{stage}: {steps} steps per epoch, {total} in all{few}; at least {memory} GiB"


def announce_slow_kernels(runs: Iterable[PlannedRun]) -> None:
    """Print why compiled kernels cannot be used, if so: the runs of a study print it to their logs only."""
    if any(isinstance(run.params, SearchParams | EvaluateParams) for run in runs):
        import torch

        from hdarts.kernels.bindings import load_kernel

        load_kernel("output_layer", 16, torch.zeros(1))


def searches_of(run: PlannedRun, by_name: Mapping[str, PlannedRun]) -> list[SearchParams]:
    """Return the parameters of the searches that a run needs, directly or not."""
    needed = [by_name[name] for name in run.needs if name in by_name]
    direct = [each.params for each in needed if isinstance(each.params, SearchParams)]
    return direct + [params for each in needed for params in searches_of(each, by_name)]


def _check_cell(run: PlannedRun, by_name: Mapping[str, PlannedRun]) -> None:
    """Read the genotype, unless a run will make it, and require enough cells for its space."""
    assert isinstance(run.params, EvaluateParams)
    spaces = {SPACES[params.space] for params in searches_of(run, by_name)}
    if run.params.genotype not in run.needs:
        from hdarts.train import read_genotype  # imports torch

        spaces = {read_genotype(run.params.genotype).space}  # which may be a custom one
    for space in spaces:
        plan(run.params.channels, run.params.layers, space)  # raises for too few layers


def _check_parts(params: EvaluateParams, searches: Iterable[SearchParams]) -> None:
    """Refuse an evaluation whose test images a search on which it depends may have read."""
    for search in searches:
        same = (search.data, search.data_folder) == (params.data, params.data_folder)
        both_outer = params.validation_part == "test" and search.validation_part == "outer"
        if same and (both_outer or params.test_fraction != search.test_fraction):
            name = "validation_part" if both_outer else "test_fraction"
            raise ParameterError(
                f"{name} is {getattr(params, name)}, but {getattr(search, name)} in the search that finds its cell, "
                "which would have read test images"
            )


def _check_steps(run: PlannedRun, info: "DatasetInfo") -> tuple[int, int]:
    """Check batch size and augmentation against the images; return the steps of an epoch and of a run."""
    from hdarts.data import Augmentation, count_batches
    from hdarts.search import epoch_steps

    params = run.params
    assert isinstance(params, Params)
    parts = [count for count in (info.train, info.validation) if count]
    if params.batch_size > min(parts):
        raise ParameterError(
            f"parameter `batch_size` = {params.batch_size}: larger than the {min(parts)} images of a part of "
            f"{params.data}"
        )
    check_size(params.stem, info.shape)
    Augmentation(params.crop_padding, params.flip, params.cutout).require_fit(*info.shape[1:])
    if isinstance(params, SearchParams):
        steps, epochs = epoch_steps(params, *parts), params.all_epochs
    else:
        steps, epochs = count_batches(info.train, params.batch_size, False), params.epochs
    return steps, steps * epochs


def _check_memory(
    run: PlannedRun,
    info: "DatasetInfo",
    by_name: Mapping[str, PlannedRun],
    sizes: dict[str, float],
    here: bool,
) -> float:
    """Return the GiB that a run needs for its images and for weights, gradients and momentum; refuse more than is here.

    Feature maps are not included, so it needs more: `hdarts run --dry-run` measures them.
    """
    from psutil import virtual_memory

    params = run.params
    assert isinstance(params, Params)
    weights = _weights(run, info, by_name, sizes)
    images = 0 if params.stream else (info.train + info.validation + info.test) * math.prod(info.shape) / 2**30
    limit, _ = memory_limit() or (math.inf, 0)
    room = min(virtual_memory().total, limit) / 2**30
    if here and images + weights > room:
        raise ParameterError(
            f"needs at least {images:.3g} GiB for its images and {weights:.3g} GiB for its weights, but this machine "
            f"has {room:.3g} GiB; image_size, limit, channels and layers decide, stream leaves images in their files"
        )
    return images + weights


def _weights(run: PlannedRun, info: "DatasetInfo", by_name: Mapping[str, PlannedRun], sizes: dict[str, float]) -> float:
    """Return the GiB of weights, gradients and momentum of a run, without making any; `sizes` remembers them."""
    import torch

    from hdarts.network import count_parameters
    from hdarts.search import make_hypernetwork, make_supernet
    from hdarts.train import new_network
    from hdarts.workbook.study.estimate import FREE, cell_of
    from hdarts.workbook.study.probe import noise

    params = run.params
    assert isinstance(params, Params)
    key = json.dumps([params.stage, info.shape, info.classes, params.model_dump(exclude=set(FREE))], sort_keys=True)
    if key not in sizes:
        data = noise(info._replace(shape=(info.shape[0], 1, 1)), 1, torch.device("cpu"))
        if isinstance(params, SearchParams):
            model = make_supernet(params, data)
            count = model.n_w
            count += make_hypernetwork(params, model).n_phi if params.method == "hypernetwork" else 0
        else:
            cell = cell_of(run, by_name)
            with torch.device("meta"):
                count = count_parameters(new_network(params, cell, data))
        sizes[key] = 3 * 4 * count / 2**30
    return sizes[key]
