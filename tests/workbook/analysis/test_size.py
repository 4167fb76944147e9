"""Sizes of networks: published numbers, what a run saw of its images, and the tested cells of a study."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.results import MadeUpStudy

from hdarts.network import EvaluationNetwork, count_multiply_adds, count_parameters
from hdarts.space import DARTS, Genotype
from hdarts.workbook.analysis.size import Seen, known_size, of_benchmark, seen, size_of
from hdarts.workbook.analysis.tables import sizes_of_tested

CIFAR = Seen(10, (3, 32, 32), "cifar")
V2 = Genotype.from_json(Path("params/genotypes/darts-v2.json").read_text())
BENCHMARK = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_published_networks_have_their_published_numbers_of_parameters():
    assert size_of(V2, CIFAR).parameters == 3_349_342
    assert size_of(V2, Seen(1000, (3, 224, 224), "imagenet"), 48, 14).parameters == 4_718_752


@pytest.mark.parametrize("images", [Seen(7, (1, 28, 20), "cifar"), Seen(3, (3, 64, 64), "imagenet")])
def test_the_size_is_that_of_the_network(images: Seen):
    network = EvaluationNetwork(V2, 8, 5, images.classes, True, images.shape[0], stem=images.stem)
    expected = (count_parameters(network), count_multiply_adds(network, images.shape))
    assert size_of(V2, images, 8, 5) == expected


def test_a_cell_of_the_benchmark_has_the_size_that_the_benchmark_states():
    size = of_benchmark(BENCHMARK)  # the benchmark's files: 1.289 million parameters, 184.73 million multiply-adds
    assert (round(size.parameters / 1e6, 3), round(size.multiply_adds / 1e6, 1)) == (1.289, 184.7)


def test_cells_with_custom_operations_have_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    mine = replace(DARTS, name="mine", operations=(*DARTS.operations, "my_operation"))
    nodes = [("my_operation", 0), ("sep_conv_3x3", 1)] * 4
    assert known_size("study/a", Genotype(custom=mine, normal=nodes, reduce=nodes)) is None
    assert known_size("study/a", V2) == size_of(V2, CIFAR)


def test_tested_cells_have_the_size_of_the_network_that_was_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    study = MadeUpStudy(tmp_path)
    study.add("search", "one-2", {"best_validation_accuracy": 90.0}, arm="one", search_seed=2)
    for seed, accuracy in enumerate([70.0, 74.0]):
        result = {
            "best_test_accuracy": 99.0,
            "last_test_accuracy": accuracy,
            "parameters": 7,
            "genotype": V2.model_dump(),
        }
        labels = {"arm": "one", "search_seed": 2, "evaluation_seed": seed}
        values = {"evaluation_seed": seed, "channels": 8, "layers": 5}
        study.add("evaluate", f"one-{seed}", result, "mine/search/one-2", values, **labels)
    (row,) = sizes_of_tested("mine").to_dict("records")
    assert (row["arm"], row["last_test_accuracy"]) == ("one", 72.0)
    assert (row["parameters"], row["multiply_adds"]) == size_of(V2, seen("mine/evaluate/one-0"), 8, 5)
