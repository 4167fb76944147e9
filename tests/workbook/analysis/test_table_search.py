"""Searches of the table: they draw from the whole space, evolve towards better cells, and report the best so far."""

from itertools import islice

import numpy as np
import pytest
from helpers.small_table import random_table

from hdarts.data.nasbench201_table import COLUMNS, BenchmarkTable
from hdarts.space import Genotype, skip_count
from hdarts.workbook.analysis.table_search import best_so_far, random_search, regularised_evolution


@pytest.fixture(scope="module")
def smooth() -> BenchmarkTable:
    """A table in which a cell is the better, the more 3x3 convolutions it has, in test as in validation."""
    frame = random_table()
    good = frame["architecture"].str.count("nor_conv_3x3") * 10.0
    return BenchmarkTable.from_frame(frame.assign(**{column: good + frame[column] / 100 for column in COLUMNS}))


def test_random_cells_are_of_all_kinds(smooth: BenchmarkTable):
    cells = list(islice(random_search(smooth, np.random.default_rng(0)), 300))
    assert len(set(cells)) > 280
    assert np.mean([skip_count(Genotype.from_string(cell)) for cell in cells]) == pytest.approx(6 / 5, abs=0.2)


def test_a_child_differs_from_a_member_of_the_population_in_one_edge(smooth: BenchmarkTable):
    cells = [Genotype.from_string(c) for c in islice(regularised_evolution(smooth, np.random.default_rng(0)), 60)]

    def apart(one: Genotype, other: Genotype) -> int:
        return sum(a != b for a, b in zip(one.cell, other.cell, strict=True))

    for at in range(10, 60):
        assert min(apart(cells[at], cells[before]) for before in range(at - 10, at)) <= 1


def test_the_best_so_far_is_the_best_of_what_was_looked_up(smooth: BenchmarkTable):
    table = best_so_far(smooth, 40, 1)
    own = table.loc[table["search"] == "random search"]
    rows = dict(zip(own["lookups"], own["test_accuracy"], strict=True))
    seen = list(islice(random_search(smooth, np.random.default_rng(0)), 40))
    for count in (1, 7, 40):
        best = max((smooth.lookup(cell) for cell in seen[:count]), key=lambda found: found["cifar10_validation"])
        assert rows[count] == pytest.approx(best["cifar10_test"])


def test_evolution_finds_better_cells_than_chance_where_neighbours_are_alike(smooth: BenchmarkTable):
    found = best_so_far(smooth, 100, 5).to_dict("records")
    last = {row["search"]: row["test_accuracy"] for row in found}  # of each, the last
    assert last["regularised evolution"] > last["random search"]
