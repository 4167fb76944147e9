"""The parts of a training, as its parameters say."""

from pathlib import Path

import torch

from hdarts.data import Splits, load
from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork
from hdarts.params import EvaluateParams
from hdarts.runs.paths import runs_folder, workbook_folder
from hdarts.runs.randomness import generator
from hdarts.space import Genotype


def read_genotype(name: str) -> Genotype:
    """Return the genotype in a run folder below `runs/`, or in a JSON file (path from here, or from the workbook)."""
    for path in (runs_folder() / name / "genotype.json", Path(name), workbook_folder() / name):
        try:
            if path.is_file():
                return Genotype.from_json(path.read_text(encoding="utf-8"))
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from None
        except (OSError, UnicodeDecodeError):
            raise ParameterError(f"{path}: cannot be read as the JSON text of a genotype") from None
    raise ParameterError(
        f"genotype = {name!r}: neither a run below {runs_folder()} that has a genotype.json, nor a JSON file"
    )


def load_splits(params: EvaluateParams) -> Splits:
    """Load the images of an evaluation: the whole training part and the test part."""
    return load(
        params.data,
        folder=params.data_folder,
        limit=params.limit,
        skip_damaged=params.skip_damaged,
        test_limit=params.test_limit,
        image_size=params.image_size,
        stream=params.stream,
        workers=params.workers,
        validation_fraction=0.0,
        test=True,
    )


def new_network(params: EvaluateParams, genotype: Genotype, data: Splits) -> EvaluationNetwork:
    """Return the network that the parameters describe; its first weights are a function of the evaluation seed."""
    seed = generator(params.evaluation_seed, "network").initial_seed()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return EvaluationNetwork(
            genotype,
            params.channels,
            params.layers,
            len(data.classes),
            auxiliary=params.auxiliary > 0,
            image_channels=data.train.shape[0],
        )
