"""result.json of a training, computed from the other files in its run folder."""

from typing import Any

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams
from hdarts.runs.run import Run, tidy
from hdarts.space import Genotype
from hdarts.train.classes import summary_of_classes


def finish(params: EvaluateParams, run: Run) -> None:
    """Write result.json, if it does not exist yet, which makes a run done, and remove the large checkpoints.

    Raises ParameterError if the training has not reached its end.
    """
    if not run.done:
        run.finish(summary(params, run))
    tidy(params, run.folder)


def summary(params: EvaluateParams, run: Run) -> dict[str, Any]:
    """Return the result of a training that has reached its end: the content of result.json, written or not."""
    if (written := run.result) is not None:
        return written
    metrics = run.table("metrics")
    if len(metrics) < params.epochs:
        raise ParameterError(f"{run.folder}: this training has not reached its end; start it again to resume it")
    best = metrics.loc[metrics["test_accuracy"].idxmax()]  # the first of equal ones
    genotype = Genotype.from_json((run.folder / "genotype.json").read_text(encoding="utf-8"))
    return {
        "best_test_accuracy": float(best["test_accuracy"]),
        "best_epoch": int(best["epoch"]),
        "last_test_accuracy": float(metrics["test_accuracy"].iloc[-1]),
        **summary_of_classes(run),
        "parameters": run.provenance["parameters"],
        "epochs": params.epochs,
        "genotype": genotype.model_dump(),
        "evaluation_seed": params.evaluation_seed,
        "data": params.data,
    }
