"""Searches of the table draw from the whole space, evolve towards better cells, and report the best so far."""

from itertools import islice

import numpy as np
import pytest
from helpers.small_table import random_table

from hdarts.data.nasbench201_table import COLUMNS, BenchmarkTable
from hdarts.space import Genotype, skip_count
from hdarts.workbook.analysis.table_search import best_so_far, random_search, regularised_evolution


@pytest.fixture(scope="module")
def smooth() -> BenchmarkTable:
    """A table in which more 3x3 convolutions make a better cell, in test and in validation."""
    frame = random_table()
    good = frame["architecture"].str.count("nor_conv_3x3") * 10.0
    return BenchmarkTable.from_frame(frame.assign(**{column: good + frame[column] / 100 for column in COLUMNS}))


def test_random_cells_cover_the_space(smooth: BenchmarkTable):
    cells = list(islice(random_search(smooth, np.random.default_rng(0)), 300))
    assert len(set(cells)) > 280
    assert np.mean([skip_count(Genotype.from_string(cell)) for cell in cells]) == pytest.approx(6 / 5, abs=0.2)


def test_child_differs_from_a_member_of_the_population_in_one_edge(smooth: BenchmarkTable):
    cells = [Genotype.from_string(c) for c in islice(regularised_evolution(smooth, np.random.default_rng(0)), 60)]

    def apart(one: Genotype, other: Genotype) -> int:
        return sum(a != b for a, b in zip(one.cell, other.cell, strict=True))

    for at in range(10, 60):
        assert min(apart(cells[at], cells[before]) for before in range(at - 10, at)) <= 1


def test_best_so_far_is_the_best_of_the_visited_cells(smooth: BenchmarkTable):
    table = best_so_far(smooth, 40, 1)
    random = table.loc[table["search"] == "random search"]
    rows = dict(zip(random["lookups"], random["test_accuracy"], strict=True))
    seen = list(islice(random_search(smooth, np.random.default_rng(0)), 40))
    for count in (1, 7, 40):
        best = max((smooth.lookup(cell) for cell in seen[:count]), key=lambda found: found["cifar10_validation"])
        assert rows[count] == pytest.approx(best["cifar10_test"])


def test_evolution_beats_random_search_where_neighbours_are_similar(smooth: BenchmarkTable):
    found = best_so_far(smooth, 100, 5).to_dict("records")
    last = {row["search"]: row["test_accuracy"] for row in found}  # of each, the last
    assert last["regularised evolution"] > last["random search"]
