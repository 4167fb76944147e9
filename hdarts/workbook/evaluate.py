"""`hdarts evaluate PARAMS.yaml`: one evaluation from the command line, on one process or on those of torchrun."""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from hdarts.errors import OutOfMemory, ParameterError
from hdarts.params import EvaluateParams, read_yaml
from hdarts.runs.paths import with_defaults
from hdarts.runs.tensorboard import need_tensorboard
from hdarts.train import train
from hdarts.train.distributed import Processes, process_group


def evaluate(file: Path, changes: Sequence[str]) -> None:
    """Train and test the network of a parameter file, as notebook 06 does, and print one line per epoch.

    Defaults and run folder are those of the notebook, which can show the result; `changes` (-p name value, ...) take
    precedence over the file.
    """
    with process_group() as processes:
        if not processes.is_main:
            os.environ["HDARTS_PROGRESS"] = "none"
        try:
            _evaluate(file, changes, processes)
        except RuntimeError as error:
            if processes.is_main or isinstance(error, FloatingPointError | OutOfMemory):
                raise
            raise SystemExit(1) from None  # lost its connection to the main process, which prints the cause


def _evaluate(file: Path, changes: Sequence[str], processes: Processes) -> None:
    with processes.main_first():  # only the main process prints errors
        params = read_params(file, changes)
        processes.validate(params.batch_size, params.device)
        if params.tensorboard:
            need_tensorboard()
    run = processes.open(params)
    if processes.is_main:
        count = f"{processes.world} processes" if processes.world > 1 else "one process"
        print(f"run folder: {run.folder}, {count}", flush=True)
    for row in train(params, run, processes=processes):
        if processes.is_main:
            values = ", ".join(f"{name} {row[name]:.4g}" for name in ("train_loss", "train_accuracy", "test_accuracy"))
            print(f"epoch {row['epoch']}/{params.epochs}: {values}", flush=True)


def read_params(file: Path, changes: Sequence[str]) -> EvaluateParams:
    """Return the parameters of an evaluation: the notebook's defaults, those of a file, and `-p name value` as YAML."""
    if len(changes) % 3 or any(word != "-p" for word in changes[::3]):
        raise ParameterError(f"{' '.join(changes)!r}: only `-p name value` may follow the parameter file")
    values = read_yaml(file)
    for name, text in zip(changes[1::3], changes[2::3], strict=True):
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ParameterError(f"parameter `{name}` = {text!r}: cannot be read as YAML") from None
    return with_defaults(EvaluateParams, values)
