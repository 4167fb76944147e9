"""What can be known before a kernel starts: are the images there, do batches fit, can the genotype be read."""

from collections.abc import Iterable

from hdarts.data import sizes
from hdarts.params import EvaluateParams, ParameterError, SearchParams
from hdarts.study import PlannedRun
from hdarts.train import read_genotype


def preflight(runs: Iterable[PlannedRun]) -> None:
    """Raise `ParameterError` for the first run that could not start, naming it; opens no image and no test set."""
    counted: dict[tuple, tuple[int, int]] = {}
    for run in runs:
        params = run.params
        try:
            if isinstance(params, EvaluateParams) and params.genotype not in run.needs:
                read_genotype(params.genotype)
            searches = isinstance(params, SearchParams) and params.method != "random"
            if searches or isinstance(params, EvaluateParams):
                fraction = params.validation_fraction if isinstance(params, SearchParams) else 0.0
                which = (params.data, params.data_folder, params.limit, fraction)
                if which not in counted:
                    counted[which] = sizes(*which)
                train, validation = counted[which]
                fewest = min(train, validation) if searches else train
                if params.batch_size > fewest:
                    raise ParameterError(
                        f"parameter `batch_size` = {params.batch_size}: larger than the {fewest} images of a part of "
                        f"{params.data}"
                    )
        except ParameterError as error:
            raise ParameterError(f"run {run.name}: {error}") from None
