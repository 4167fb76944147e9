"""Random search and evolution on the table of NAS-Bench-201: reference lines for searches that train.

Without the table, each look-up would require training a network for 200 epochs. Both searches maximise the table's
validation accuracy.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pandas as pd

from hdarts.data.nasbench201_table import BenchmarkTable
from hdarts.space import NASBENCH201, Genotype

Operations = tuple[int, ...]  # one number per edge
EDGES, KINDS = len(NASBENCH201.edges), len(NASBENCH201.operations)


def random_search(table: BenchmarkTable, draw: np.random.Generator) -> Iterator[str]:
    """Yield random cells, without end."""
    while True:
        yield _string(tuple(draw.integers(KINDS, size=EDGES)))


def regularised_evolution(
    table: BenchmarkTable, draw: np.random.Generator, population: int = 10, sample: int = 3
) -> Iterator[str]:
    """Yield the cells of regularised evolution without end (Real et al., AAAI 2019).

    After `population` random cells, each step draws `sample` members of the population; a child of the best of them,
    with another operation on one edge, replaces the oldest member.
    """
    members: list[tuple[float, Operations]] = []
    scores = table.cells["cifar10_validation"].to_dict()
    while True:
        if len(members) < population:
            child = tuple(draw.integers(KINDS, size=EDGES))
        else:
            _, parent = max(members[i] for i in draw.choice(population, sample, replace=False))
            child = _mutated(parent, draw)
            del members[0]
        members.append((scores[_string(child)], child))
        yield _string(child)


SEARCHES: dict[str, Callable[..., Iterator[str]]] = {
    "random search": random_search,
    "regularised evolution": regularised_evolution,
}


def best_so_far(table: BenchmarkTable, lookups: int, runs: int) -> pd.DataFrame:
    """Return the test accuracy of the best cell so far of each search: `search`, `lookups`, `test_accuracy` (per cent).

    The best cell is that of the highest validation accuracy on CIFAR-10. Means over `runs` with seeds 0, 1, ...
    """
    validation, test = (table.cells[f"cifar10_{part}"].to_dict() for part in ("validation", "test"))
    frames = []
    for name, cells in SEARCHES.items():
        accuracy = np.zeros(lookups)
        for seed in range(runs):
            visited = list(islice(cells(table, np.random.default_rng(seed)), lookups))
            scores = np.array([validation[cell] for cell in visited])
            new = scores >= np.maximum.accumulate(scores)  # no worse than all before
            best = np.maximum.accumulate(np.where(new, np.arange(lookups), 0))
            accuracy += np.array([test[cell] for cell in visited])[best] / runs
        frames.append(pd.DataFrame({"search": name, "lookups": np.arange(1, lookups + 1), "test_accuracy": accuracy}))
    return pd.concat(frames, ignore_index=True)


def _string(operations: Operations) -> str:
    named = zip(operations, NASBENCH201.edges, strict=True)
    return Genotype(cell=[(NASBENCH201.operations[o], source) for o, (source, _) in named]).to_string()


def _mutated(parent: Operations, draw: np.random.Generator) -> Operations:
    edge, step = int(draw.integers(EDGES)), int(draw.integers(1, KINDS))
    return tuple((o + step) % KINDS if e == edge else o for e, o in enumerate(parent))
