"""`hdarts search` and `hdarts evaluate`: one run from the command line, on one process or on those of torchrun."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hdarts.errors import OutOfMemory, ParameterError
from hdarts.params import MODELS, EvaluateParams, SearchParams, read_yaml
from hdarts.runs.paths import in_workbook, notebooks_folder, with_defaults, workbook_above, workbook_folder
from hdarts.runs.processes import Processes, process_group
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.train import train
from hdarts.workbook.study import PlannedRun
from hdarts.workbook.study.preflight import preflight

SHOWN = ("train_loss", "train_accuracy", "validation_accuracy", "test_accuracy")  # of the columns of metrics.csv
RESULTS = {
    "last_test_accuracy": "test accuracy of the last epoch",
    "best_test_accuracy": "of the best epoch, chosen on the test set,",
    "last_validation_accuracy": "search-validation accuracy of the last epoch",
    "best_validation_accuracy": "of the best epoch",
}
P = TypeVar("P", SearchParams, EvaluateParams)


def run_file(model: type[P], file: Path, changes: Sequence[str]) -> None:
    """Search, or train and test, by a parameter file, as notebook 03 or 06 does, and print one line per epoch.

    Defaults and run folder are those of the notebook, which can show the result, in the workbook that the file is in,
    or else in that of the working folder. `changes` (-p name value, ...) take precedence over the file.
    """
    if not file.is_file():
        raise ParameterError(f"{file}: no such file in the working folder {Path.cwd()}")
    with in_workbook(workbook_above(file.parent.resolve()) or workbook_folder()), process_group() as processes:
        if not processes.is_main:
            os.environ["HDARTS_PROGRESS"] = "none"
        try:
            _run_file(model, file, changes, processes)
        except RuntimeError as error:
            if processes.is_main or isinstance(error, FloatingPointError | OutOfMemory):
                raise
            raise SystemExit(1) from None  # lost its connection to the main process, which prints the cause


def _run_file(model: type[P], file: Path, changes: Sequence[str], processes: Processes) -> None:
    with processes.main_first():  # only the main process prints errors
        params = read_params(model, file, changes)
        processes.validate(params.batch_size, params.device)
        name = next(name for name, other in MODELS.items() if other is model)
        notebook = notebooks_folder() / f"{name}.ipynb"
        preflight([PlannedRun(params.run or params.slug(), params.stage, notebook, params, {}, ())])
    run = processes.open(params)
    if processes.is_main:
        count = f"{processes.world} processes" if processes.world > 1 else "one process"
        print(f"run folder: {run.folder}, {count}{', is done already' if run.done else ''}", flush=True)
    for row in epochs_of(params, run, processes):
        if processes.is_main:
            values = ", ".join(f"{name} {row[name]:.4g}" for name in SHOWN if name in row)
            print(f"epoch {row['epoch']}/{getattr(params, 'all_epochs', params.epochs)}: {values}", flush=True)
    if processes.is_main:
        print(outcome(params, run))


def epochs_of(params: SearchParams | EvaluateParams, run: Run, processes: Processes) -> Iterator[dict[str, Any]]:
    """Yield the rows of the search or training that the parameters describe."""
    if isinstance(params, SearchParams):
        return search(params, run, processes=processes)
    return train(params, run, processes=processes)


def outcome(params: SearchParams | EvaluateParams, run: Run) -> str:
    """Return the result of a run that is done, its folder, and what can be done next, as lines."""
    result = run.result or {}
    shown = ", ".join(f"{words} {result[name]:.2f} %" for name, words in RESULTS.items() if name in result)
    shown = shown or "a random cell"
    if isinstance(params, SearchParams):
        following = f"hdarts evaluate params/evaluate/cifar10.yaml -p genotype {run.name}"
    elif params.keep_checkpoint:
        following = f"hdarts export {run.name}"
    else:
        following = f"no weights were kept, `-p keep_checkpoint true` keeps them for `hdarts export {run.name}`"
    return f"result: {shown}\nfolder: {run.folder}\nnext: {following}"


def read_params(model: type[P], file: Path, changes: Sequence[str]) -> P:
    """Return the parameters of a run: the notebook's defaults, those of a file, and `-p name value` as YAML."""
    if len(changes) % 3 or any(word != "-p" for word in changes[::3]):
        raise ParameterError(f"{' '.join(changes)!r}: only `-p name value` may follow the parameter file")
    values = read_yaml(file)
    for name, text in zip(changes[1::3], changes[2::3], strict=True):
        try:
            values[name] = text if text.startswith("|") else yaml.safe_load(text)  # | begins a cell of NAS-Bench-201
        except yaml.YAMLError:
            raise ParameterError(f"parameter `{name}` = {text!r}: cannot be read as YAML") from None
    return with_defaults(model, values)
