"""A training made from its parameters: genotype, images, network, optimiser and batches."""

import copy
from functools import partial

import torch

from hdarts.data import Augmentation, Batches, Splits, load
from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork, count_parameters
from hdarts.params import EvaluateParams
from hdarts.runs.checkpoint import CheckpointClock
from hdarts.runs.custom import called, require
from hdarts.runs.device import use_machine, widest_float
from hdarts.runs.paths import places, runs_folder
from hdarts.runs.processes import SINGLE, Processes
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.runs.tensorboard import Write, no_events
from hdarts.space import Genotype
from hdarts.space.layers import check_size
from hdarts.train.classes import balanced_weights
from hdarts.train.distributed import synchronise_batch_norm
from hdarts.train.state import Training


def read_genotype(name: str) -> Genotype:
    """Return the genotype in a text (`Genotype.from_text`), of a run below `runs/`, or in a file with such a text.

    A relative path of a file is searched for in the working folder, then in the workbook.
    """
    if ("Genotype" in name and "(" in name) or name.lstrip().startswith(("|", "{")):
        return Genotype.from_text(name)
    for path in (runs_folder() / name / "genotype.json", *places(name)):
        try:
            if path.is_file():
                return Genotype.from_text(path.read_text(encoding="utf-8"))
        except ParameterError as error:
            raise ParameterError(f"{path}: {error}") from None
        except (OSError, UnicodeDecodeError):
            raise ParameterError(f"{path}: cannot be read as the text of a genotype") from None
    folder = next((path for path in places(name) if path.is_dir()), None)
    found = f"{folder} is a folder" if folder else f"there is no {' and no '.join(map(str, places(name)))}"
    raise ParameterError(
        f"genotype = {name!r}: is no run below {runs_folder()} that has a genotype.json, no file ({found}), and no "
        "text such as Genotype(normal=[...], ...)"
    )


def load_splits(params: EvaluateParams) -> Splits:
    """Load the images of an evaluation: the whole training part and the test part."""
    return load(params.data, **params.source(), validation_fraction=0.0, test=True)


def new_network(params: EvaluateParams, genotype: Genotype, data: Splits) -> EvaluationNetwork:
    """Return the network that the parameters describe; its initial weights are a function of the evaluation seed."""
    check_size(params.stem, data.train.shape)
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
            stem=params.stem,
        )


def require_network(network: torch.nn.Module, data: Splits, device: torch.device) -> None:
    """Refuse a user-defined network that does not fit the images: a copy of it is called on two black ones."""
    trial = copy.deepcopy(network)
    images, wanted = torch.zeros(2, *data.train.shape, device=device), (2, len(data.classes))
    for training in (True, False):
        trial.train(training)
        more = {"generator": torch.Generator()} if training else {}
        outputs = called("network", partial(trial, images, **more), 0.0)
        if not isinstance(outputs, tuple) or len(outputs) != 2:
            raise ParameterError("network: has to return its logits and those of its auxiliary head, or None")
        for name, logits in zip(("logits", "auxiliary logits"), outputs, strict=True):
            require(f"network: the shape of its {name} for 2 images", wanted if logits is None else logits, wanted)


def prepare(
    params: EvaluateParams,
    run: Run,
    clock: CheckpointClock,
    data: Splits | None = None,
    network: torch.nn.Module | None = None,
    processes: Processes = SINGLE,
    events: Write = no_events,
) -> Training:
    """Return the training before its first step; wrong parameters raise `ParameterError` before any file is written."""
    processes.validate(params.batch_size, params.device)
    device = use_machine(params)
    genotype = read_genotype(params.genotype)
    data = data or load_splits(params)
    data.require_parts("test")
    assert data.test is not None
    batches = Batches(
        data.train.to(device),
        params.batch_size,
        Augmentation(params.crop_padding, params.flip, params.cutout),
        drop_last=False,
        share=(processes.rank, processes.world),
    )
    if network is not None:
        require_network(network.to(device), data, device)
    network = network or new_network(params, genotype, data)
    if params.sync_batch_norm and processes.world > 1:
        synchronise_batch_norm(network)
    network = network.to(device)
    optimiser = torch.optim.SGD(
        network.parameters(), params.learning_rate, momentum=params.momentum, weight_decay=params.weight_decay
    )
    _describe(run, genotype, data, network, device, processes)
    sums, test = torch.zeros(3, dtype=widest_float(device), device=device), data.test.to(device)
    parallel = processes.parallel(network)
    weights = balanced_weights(batches.images.labels, len(data.classes)) if params.class_weights == "balanced" else None
    return Training(
        params, run, network, parallel, optimiser, batches, test, clock, processes, events, sums, data.classes, weights
    )


def _describe(
    run: Run, genotype: Genotype, data: Splits, network: torch.nn.Module, device: torch.device, processes: Processes
) -> None:
    """Write genotype and provenance; a run that was started with another genotype or other images is refused."""
    text = genotype.to_json()
    path = run.folder / "genotype.json"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ParameterError(f"{path}: this run was started with another genotype; name another run")
    run.write_text(path.name, text)
    machine = {"device": str(device), "threads": torch.get_num_threads(), "processes": processes.world}
    if processes.is_main:
        run.write_provenance(data=data.summary(), **machine, parameters=count_parameters(network))
