"""How large the network of a cell is: its parameters and multiply-adds, counted from shapes, without computing it."""

from functools import cache
from typing import NamedTuple

from hdarts.params import read_yaml
from hdarts.runs.paths import below_runs
from hdarts.runs.provenance import last_images
from hdarts.space import DARTS, NASBENCH201, Genotype

AS_PUBLISHED = (36, 20)  # channels and cells of DARTS's networks for CIFAR-10
OF_THE_BENCHMARK = (16, 5)  # channels and cells per stage of NAS-Bench-201


class Size(NamedTuple):
    """Parameters without the auxiliary head, and multiply-adds of one image in convolutions and classifier."""

    parameters: int
    multiply_adds: int


class Seen(NamedTuple):
    """What a run saw of its images, and the stem that it used: what the size of a network depends on."""

    classes: int
    shape: tuple[int, int, int]  # of an image: channels, height, width
    stem: str


def seen(run: str) -> Seen:
    """Return what the provenance of a run records of its images; 10 classes of 3x32x32 where it records nothing."""
    data, file = last_images(below_runs(run)), below_runs(run) / "params.yaml"
    stem = read_yaml(file).get("stem", "cifar") if file.is_file() else "cifar"
    channels, height, width = data.get("shape", (3, 32, 32))
    return Seen(len(data.get("classes", range(10))), (channels, height, width), stem)


def size_of(genotype: Genotype, images: Seen, channels: int = 0, layers: int = 0) -> Size:
    """Return the size of the network of a genotype; 0 channels or layers stand for those that are published.

    For CIFAR-10 these are 36 channels and 20 cells, for NAS-Bench-201 16 channels and 5 cells in each stage. Raises
    `ParameterError` for cells with custom operations, whose size is not known here.
    """
    usual = OF_THE_BENCHMARK if genotype.space == NASBENCH201 else AS_PUBLISHED
    return _counted(genotype.to_json(), images, channels or usual[0], layers or usual[1])


@cache
def _counted(genotype: str, images: Seen, channels: int, layers: int) -> Size:
    import torch  # takes seconds, and is not needed to select

    from hdarts.network import EvaluationNetwork, count_multiply_adds, count_parameters

    of, colours = Genotype.from_json(genotype), images.shape[0]
    with torch.device("meta"):
        network = EvaluationNetwork(of, channels, layers, images.classes, False, colours, stem=images.stem)
    return Size(count_parameters(network), count_multiply_adds(network, images.shape))


def of_benchmark(cell: str) -> Size:
    """Return the size of a cell of NAS-Bench-201, given as its string, in the benchmark's network for CIFAR-10."""
    return size_of(Genotype.from_string(cell), Seen(10, (3, 32, 32), "cifar"))


def known_size(run: str, genotype: Genotype, channels: int = 0, layers: int = 0) -> Size | None:
    """Return the size of the network that trains the cell of a search; None for cells with custom operations.

    Raises `ParameterError` for impossible sizes.
    """
    named = {*DARTS.operations, *NASBENCH201.operations}
    return size_of(genotype, seen(run), channels, layers) if {*genotype.space.operations} <= named else None
