"""Search spaces, genotypes, and discretisation compared with a second, plain version of DARTS's rule."""

import copy
import json
import math
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.small_table import write_table
from hypothesis import given, settings
from hypothesis import strategies as st

from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork
from hdarts.params import AnalysisParams
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.truth import TruthFile
from hdarts.space import DARTS, NASBENCH201, Genotype, discretise, every_cell, one_hot_alpha, plan, skip_count
from hdarts.supernet import Supernet

# published with DARTS (second order, CIFAR-10)
DARTS_V2 = Genotype(
    normal=[
        ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
        ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
    ],
    reduce=[
        ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
        ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
    ],
)  # fmt: skip
GENOTYPES = ROOT / "params" / "genotypes"


def test_a_darts_cell_has_fourteen_edges_of_eight_operations():
    assert DARTS.alpha_shape == (2, 14, 8)
    assert DARTS.n_alpha == 112
    assert DARTS.operations[0] == "none"
    assert DARTS.edges[:5] == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
    assert DARTS.edges[-1] == (4, 5)


def test_a_nasbench201_cell_has_six_edges_of_five_operations():
    assert NASBENCH201.alpha_shape == (1, 6, 5)
    assert NASBENCH201.edges == ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))


def by_the_rule(alpha: list) -> dict[str, list[tuple[str, int]]]:
    """DARTS's rule on nested lists: softmax; the best operation but none; the two best edges of each node."""
    cells = {}
    for kind, rows in zip(("normal", "reduce"), alpha, strict=True):
        cells[kind], first = [], 0
        for node in (2, 3, 4, 5):
            candidates = []
            for source in range(node):
                exponentials = [math.exp(value) for value in rows[first + source]]
                weights = [value / sum(exponentials) for value in exponentials]
                best = 1
                for o in range(2, 8):
                    if weights[o] > weights[best]:
                        best = o
                candidates.append((weights[best], source, DARTS.operations[best]))
            strongest = sorted(candidates, key=lambda c: c[0], reverse=True)[:2]
            cells[kind] += [(operation, source) for _, source, operation in strongest]
            first += node
    return cells


@pytest.mark.parametrize("scale", [0.001, 1.0, 10.0])
def test_random_alphas_are_discretised_by_the_rule_of_darts(scale: float):
    alphas = scale * torch.randn(334, *DARTS.alpha_shape, dtype=torch.float64, generator=generator(0, "cells"))
    for alpha in alphas:
        assert discretise(alpha).model_dump() == by_the_rule(alpha.tolist())


def test_discretisation_of_an_example_solved_by_hand():
    # node 2: edge 1 is stronger (0.9 against 0.7). node 3: the large `none` of edge 1 only reduces the others: its 5x5
    # has softmax weight e/(e^3+e+6) = 0.09, less than the 1/8 of an edge of equal operations
    alpha = torch.zeros(DARTS.alpha_shape)
    names = DARTS.operations.index
    alpha[0, 0, names("sep_conv_3x3")] = 0.7
    alpha[0, 1, names("dil_conv_5x5")] = 0.9
    alpha[0, 3, names("none")] = 3.0
    alpha[0, 3, names("sep_conv_5x5")] = 1.0
    alpha[0, 4, names("skip_connect")] = 2.0
    normal = discretise(alpha).normal
    assert normal[:2] == [("dil_conv_5x5", 1), ("sep_conv_3x3", 0)]
    assert normal[2:4] == [("skip_connect", 2), ("max_pool_3x3", 0)]


def test_ties_keep_the_first_edge_and_the_first_operation():
    cell = discretise(torch.zeros(DARTS.alpha_shape))
    assert cell.normal == cell.reduce == [("max_pool_3x3", 0), ("max_pool_3x3", 1)] * 4


def test_discretisation_depends_on_the_softmax_only_and_leaves_alpha_unchanged():
    alpha = torch.randn(DARTS.alpha_shape, generator=generator(1, "cells"), requires_grad=True)
    shift = torch.randn(2, 14, 1, generator=generator(2, "cells"))
    before = alpha.detach().clone()
    assert discretise(alpha + shift) == discretise(alpha)
    assert torch.equal(alpha, before)


@pytest.mark.parametrize("shape", [(14, 8), (2, 8, 14), (1, 6, 5), (2, 14, 7)])
def test_an_alpha_of_another_space_is_refused_with_both_shapes(shape):
    with pytest.raises(ParameterError, match=r"is not of space darts: \(2, 14, 8\)"):
        discretise(torch.zeros(shape))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_alpha_that_is_not_finite_is_refused(value: float):
    alpha = torch.zeros(DARTS.alpha_shape)
    alpha[1, 3, 2] = value
    with pytest.raises(ParameterError, match="not finite"):
        discretise(alpha)


def test_the_cell_on_disk_is_the_published_one():
    assert Genotype.from_json((GENOTYPES / "darts-v2.json").read_text()) == DARTS_V2
    assert skip_count(DARTS_V2) == 2
    assert skip_count(Genotype.from_json((GENOTYPES / "darts-v1.json").read_text())) == 3


def test_genotypes_round_trip_through_json():
    for index in range(50):
        genotype = discretise(torch.randn(DARTS.alpha_shape, generator=generator(index, "cells")))
        assert Genotype.from_json(genotype.to_json()) == genotype
    assert json.loads(DARTS_V2.to_json()).keys() == {"format", "space", "normal", "reduce"}


def test_the_genotype_of_an_alpha_that_prefers_it_is_that_genotype():
    alpha = torch.zeros(DARTS.alpha_shape)
    for kind, cell in enumerate((DARTS_V2.normal, DARTS_V2.reduce)):
        for position, (operation, source) in enumerate(cell):
            edge = DARTS.edges.index((source, 2 + position // 2))
            alpha[kind, edge, DARTS.operations.index(operation)] = 3.0 - position % 2
    assert discretise(alpha) == DARTS_V2


CONTENT = json.loads(DARTS_V2.to_json())


def changed(**entries) -> str:
    return json.dumps({**CONTENT, **entries})


def one_edge(*edge) -> str:
    return changed(normal=[list(edge), *CONTENT["normal"][1:]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "no object with format, space and cells"),
        ("{}", "format None is not known here"),
        (changed(format=2), "format 2 is not known here; this release reads format 1"),
        (changed(format=True), "format True is not known"),
        (changed(space="nasbench201"), "cell: is missing; a genotype of space nasbench201 has it"),
        (changed(space="pnas"), "space 'pnas' is not known; known are darts, nasbench201"),
        (changed(space=[1]), "space [1] is not known"),
        (changed(cell=[]), "normal: is no cell of space nasbench201"),
        (changed(normal=CONTENT["normal"][:7]), "normal cell has 7 edges; a cell has 8"),
        (changed(reduce=None), "reduce: "),
        (changed(concat=[2, 3]), "concat: "),
        (one_edge("sep_conv_7x7", 0), "'sep_conv_7x7' is not one of none, max_pool_3x3, "),
        (one_edge("skip_connect", 2), "node 0 (input 2 of the others) takes input 2; it can take 0 to 1"),
        (one_edge("skip_connect", -1), "node 0 (input 2 of the others) takes input -1"),
        (one_edge("skip_connect", 1), "node 0 (input 2 of the others) takes input 1 twice"),
        (one_edge("skip_connect", "0"), "normal.0.1: "),
        (one_edge("skip_connect", True), "normal.0.1: "),
        (one_edge("skip_connect", 0.0), "normal.0.1: "),
        (one_edge("skip_connect", 0, 1), "normal.0: "),
        (one_edge(0, "skip_connect"), "normal.0.0: "),
        (json.dumps({k: v for k, v in CONTENT.items() if k != "reduce"}), "reduce: "),
    ],
)
def test_an_impossible_genotype_is_refused_in_one_sentence(text: str, message: str):
    with pytest.raises(ParameterError) as error:
        Genotype.from_json(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.sampled_from(DARTS.operations),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
EDGE = st.tuples(st.sampled_from(DARTS.operations), st.integers(0, 5)) | st.lists(JSON, max_size=3)
CELL = st.lists(EDGE, min_size=8, max_size=8) | JSON


@given(content=st.fixed_dictionaries({"normal": CELL, "reduce": CELL}, optional={"x": JSON}) | JSON, text=st.text())
@settings(max_examples=150, deadline=None)
def test_any_text_gives_a_genotype_or_a_parameter_error(content, text: str):
    head = {"format": 1, "space": "darts"}
    for given_text in (
        text,
        json.dumps(content),
        json.dumps({**head, **content} if isinstance(content, dict) else head),
    ):
        try:
            genotype = Genotype.from_json(given_text)
        except ParameterError as error:
            assert "\n" not in str(error)
        else:
            assert Genotype.from_json(genotype.to_json()) == genotype


BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"


def test_all_cells_round_trip_through_the_string_of_the_benchmark():
    texts = set()
    for genotype in every_cell():
        texts.add(text := genotype.to_string())
        assert Genotype.from_string(text) == genotype
    assert len(texts) == 15_625
    assert BEST in texts


def test_the_string_reads_node_by_node():
    cell = Genotype.from_string(BEST).cell
    assert [source for _, source in cell] == [0, 0, 1, 0, 1, 2]
    assert cell[3] == ("skip_connect", 0)
    assert skip_count(Genotype.from_string(BEST)) == 1


def test_a_cell_of_the_benchmark_round_trips_through_json():
    genotype = Genotype.from_string(BEST)
    assert Genotype.from_json(genotype.to_json()) == genotype
    assert Genotype.model_validate(genotype.model_dump()) == genotype
    assert json.loads(genotype.to_json()).keys() == {"format", "space", "cell"}
    assert (genotype.space, DARTS_V2.space) == (NASBENCH201, DARTS)


def test_each_edge_keeps_its_largest_operation_none_included():
    alpha = torch.zeros(NASBENCH201.alpha_shape)
    for edge, operation in enumerate((0, 1, 2, 3, 4, 0)):
        alpha[0, edge, operation] = 0.1
    assert [operation for operation, _ in discretise(alpha, NASBENCH201).cell] == [*NASBENCH201.operations, "none"]
    first = discretise(torch.zeros(NASBENCH201.alpha_shape), NASBENCH201)
    assert {operation for operation, _ in first.cell} == {"none"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|"),
        (BEST[:-1], "is not of the form"),
        (BEST + "|", "is not of the form"),
        (BEST + "\n", "is not of the form"),
        (BEST.replace("skip_connect", "sep_conv_3x3"), "'sep_conv_3x3' is not one of none, skip_connect"),
        (BEST.replace("skip_connect~0|nor_conv_3x3~1", "skip_connect~1|nor_conv_3x3~0"), "node 3 takes input 1"),
        (BEST.replace("conv_3x3~2", "conv_3x3~3"), "is not of the form"),
    ],
)
def test_a_string_that_is_no_cell_is_refused_in_one_sentence(text: str, message: str):
    with pytest.raises(ParameterError) as error:
        Genotype.from_string(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ([["none", 0]] * 5, "cell has 5 edges; a cell of space nasbench201 has 6"),
        ([["max_pool_3x3", 0]] * 6, "operation 'max_pool_3x3' is not one of"),
        ([["none", 0]] * 6, "node 2 takes input 0 where input 1 is expected"),
    ],
)
def test_an_impossible_cell_of_the_benchmark_is_refused(cell, message: str):
    with pytest.raises(ParameterError, match=message):
        Genotype.from_json(json.dumps({"format": 1, "space": "nasbench201", "cell": cell}))


@pytest.mark.parametrize("copied", [copy.deepcopy, replace, lambda space: pickle.loads(pickle.dumps(space))])
def test_a_copy_of_a_space_is_that_space(copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The supernet of a copy, its evaluation network, its files, its pictures."""
    space, darts = copied(NASBENCH201), copied(DARTS)
    assert space is not NASBENCH201
    assert Supernet(space, 2, 1, 3).n_w == Supernet(NASBENCH201, 2, 1, 3).n_w
    best = Genotype.from_string(BEST)
    found = discretise(one_hot_alpha(best), space)
    assert found == best == Genotype(custom=space, cell=best.cell)
    assert Genotype(custom=darts, normal=DARTS_V2.normal, reduce=DARTS_V2.reduce) == DARTS_V2
    assert found.to_string() == BEST and found.to_json() == best.to_json()
    assert EvaluationNetwork(found, 2, 1, 3, auxiliary=False).last is not None
    monkeypatch.setenv("HDARTS_DATA", str(write_table(tmp_path)))
    assert TruthFile.of(Run(tmp_path, AnalysisParams(run="", study="")), space).table is not None
    every_none = NASBENCH201.operations.index("none") == space.best_operations(np.eye(5)[[0] * 6])
    assert every_none.all() and (darts.best_operations(np.eye(8)[[0] * 14]) == 1).all()


def test_no_module_recognises_a_space_by_identity():
    modules = sorted((ROOT / "hdarts").rglob("*.py"))
    assert [path.name for path in modules if re.search(r"\bis (not )?(DARTS|NASBENCH201)\b", path.read_text())] == []


def test_a_cell_of_darts_has_no_string_form():
    with pytest.raises(ParameterError, match="of space darts, which has no string form"):
        DARTS_V2.to_string()


@pytest.mark.parametrize(("layers", "reduction"), [(8, [2, 5]), (20, [6, 13]), (3, [1, 2]), (5, [1, 3]), (6, [2, 4])])
def test_reduction_cells_are_at_one_and_two_thirds(layers: int, reduction: list[int]):
    cells = plan(16, layers)
    assert len(cells) == layers
    assert [k for k, cell in enumerate(cells) if cell.kind == "reduce"] == reduction
    assert [k for k, cell in enumerate(cells) if cell.after_reduction] == [k + 1 for k in reduction if k + 1 < layers]
    assert all(cell.stride == (2 if cell.kind == "reduce" else 1) for cell in cells)


def test_channels_double_in_reduction_cells_and_inputs_are_the_two_outputs_before():
    cells = plan(16, 8)
    assert [cell.channels for cell in cells] == [16, 16, 32, 32, 32, 64, 64, 64]
    assert [cell.previous for cell in cells] == [48, 64, 64, 128, 128, 128, 256, 256]
    assert [cell.previous_previous for cell in cells] == [48, 48, 64, 64, 128, 128, 128, 256]
    assert [cell.channels for cell in plan(36, 20)] == [36] * 6 + [72] * 7 + [144] * 7


@pytest.mark.parametrize("layers", [-1, 0, 1, 2])
def test_a_network_of_fewer_than_three_cells_is_refused(layers: int):
    with pytest.raises(ParameterError, match=f"layers = {layers}: a network needs at least 3 cells"):
        plan(16, layers)


def test_a_network_of_the_benchmark_has_three_stages_with_residual_blocks_between():
    cells = plan(16, 5, NASBENCH201)
    assert [k for k, cell in enumerate(cells) if cell.reduces] == [5, 11]
    assert [cell.channels for cell in cells] == [16] * 5 + [32] * 6 + [64] * 6
    assert [cell.previous for cell in cells] == [16] * 6 + [32] * 6 + [64] * 5
    with pytest.raises(
        ParameterError, match="layers = 0: a network of space nasbench201 needs at least 1 cell per stage"
    ):
        plan(16, 0, NASBENCH201)
