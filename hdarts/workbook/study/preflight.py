"""Check before a kernel starts that images exist, batches fit into them, and genotypes can be read."""

from collections.abc import Iterable

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams
from hdarts.runs.tensorboard import need_tensorboard
from hdarts.space import SPACES, plan
from hdarts.space.layers import check_size
from hdarts.workbook.study import PlannedRun


def preflight(runs: Iterable[PlannedRun]) -> None:
    """Raise `ParameterError` naming the first run that could not start; decode no image, open no test part."""
    known: dict[tuple, tuple[int, int]] = {}  # by data set
    spaces: dict[str, set[str]] = {}  # of the cells of each run
    for run in runs:
        space = {run.params.space} if isinstance(run.params, SearchParams) else set()
        spaces[run.name] = space.union(*(spaces.get(name, set()) for name in run.needs))
        try:
            if getattr(run.params, "tensorboard", False):
                need_tensorboard()
            if isinstance(run.params, SearchParams) and run.params.method != "random":
                _check_batch(run.params, run.params.validation_fraction, known)
            if isinstance(run.params, EvaluateParams):
                _check_batch(run.params, 0.0, known)
                if run.params.genotype not in run.needs:
                    from hdarts.train import read_genotype  # imports torch

                    spaces[run.name] = {read_genotype(run.params.genotype).space.name}
                for space in spaces[run.name]:
                    plan(run.params.channels, run.params.layers, SPACES[space])  # raises for too few layers
        except ParameterError as error:
            raise ParameterError(f"run {run.name}: {error}") from None


def announce_slow_kernels(runs: Iterable[PlannedRun]) -> None:
    """Print why compiled kernels cannot be used, if so: the runs of a study print it to their logs only."""
    if any(isinstance(run.params, SearchParams | EvaluateParams) for run in runs):
        import torch

        from hdarts.kernels.bindings import load_kernel

        load_kernel("output_layer", 16, torch.zeros(1))


def _check_batch(params: SearchParams | EvaluateParams, fraction: float, known: dict[tuple, tuple[int, int]]) -> None:
    from hdarts.data import dataset_info, split_sizes  # imports torch

    images = (params.data, params.data_folder, params.limit, fraction, params.stream)
    if images not in known:
        known[images] = split_sizes(*images)
    fewest = min(count for count in known[images] if count)
    if params.batch_size > fewest:
        raise ParameterError(
            f"parameter `batch_size` = {params.batch_size}: larger than the {fewest} images of a part of {params.data}"
        )
    if params.stem == "imagenet":
        shape = dataset_info(params.data, params.data_folder, params.limit, fraction, params.image_size).shape
        check_size(params.stem, shape)
