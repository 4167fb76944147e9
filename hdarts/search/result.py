"""result.json of a search, computed from the other files in its run folder."""

import math
from typing import Any

from hdarts.errors import ParameterError
from hdarts.params import SearchParams
from hdarts.runs.run import Run, tidy
from hdarts.space import Genotype, skip_count


def finish(params: SearchParams, run: Run) -> None:
    """Write result.json, if it does not exist yet, which makes a run done, and remove the large checkpoints.

    Raises ParameterError if the search has not reached its end.
    """
    if not run.done:
        run.finish(summary(params, run))
    tidy(params, run.folder)


def summary(params: SearchParams, run: Run) -> dict[str, Any]:
    """Return the result of a search that has reached its end: the content of result.json, written or not.

    The score is the best validation accuracy of the mixed operations.
    """
    if (written := run.result) is not None:
        return written
    file = run.folder / "genotype.json"
    if not file.is_file():
        raise ParameterError(f"{run.folder}: this search has not reached its end; start it again to resume it")
    genotype = Genotype.from_json(file.read_text(encoding="utf-8"))
    result: dict[str, Any] = {"method": params.method, "search_seed": params.search_seed, "data": params.data}
    result |= {"skips_normal": skip_count(genotype), "genotype": genotype.model_dump()}
    if params.method == "random":
        return result
    metrics, counts = run.table("metrics"), run.provenance
    best, last = metrics.loc[metrics["validation_accuracy"].idxmax()], metrics.iloc[-1]
    if math.isfinite(accuracy := float(last["discretised_accuracy"])):
        result["discretised_accuracy"] = accuracy
    return result | {
        "epochs": params.all_epochs,
        "epochs_done": int(last["epoch"]),
        "best_validation_accuracy": float(best["validation_accuracy"]),
        "best_epoch": int(best["epoch"]),
        "last_validation_accuracy": float(last["validation_accuracy"]),
        "supernet_weights": counts["supernet_weights"],
        "trained_weights": counts["trained_weights"],
    }
