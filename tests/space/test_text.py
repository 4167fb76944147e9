"""The texts that codes of DARTS print: read as literals, all forms, and refused in one sentence."""

import ast
import json
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.published import published
from hypothesis import given, settings
from hypothesis import strategies as st

from hdarts import plots
from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, check, notebook_defaults
from hdarts.space import Genotype
from hdarts.train import read_genotype
from hdarts.workbook.run_file import read_params

BENCHMARK = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
PRINTED = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
DARTS_V2 = Genotype.from_json((ROOT / "params/genotypes/darts-v2.json").read_text())
KEYWORDS = {word.arg: ast.unparse(word.value) for word in ast.parse(PRINTED, mode="eval").body.keywords}  # type: ignore[attr-defined]
PARAMETERS = notebook_defaults(ROOT / "notebooks/06_evaluate.ipynb")


def by_node(kind: str) -> str:
    edges = ast.literal_eval(KEYWORDS[kind])
    return repr([tuple(edges[i : i + 2]) for i in range(0, 8, 2)])


FORMS = {
    "printed": PRINTED,
    "named": f"DARTS_V2 = {PRINTED}",
    "with lines, comments and lists": PRINTED.replace("range(2, 6)", "[2, 3, 4, 5]")
    .replace("[(", "[  # normal\n(")
    .replace("), ", "),\n"),
    "of a log": f"05/01 12:00:00 PM genotype = {PRINTED}\n05/01 12:00:01 PM train 000",
    "twice the same": f"{PRINTED}\n{PRINTED}",
    "without keywords": "Genotype({normal}, {normal_concat}, {reduce}, {reduce_concat})".format(**KEYWORDS),
    "without concatenations": "Genotype(normal={normal}, reduce={reduce})".format(**KEYWORDS),
    "grouped by node": f"Genotype(normal={by_node('normal')}, normal_concat=list(range(2, 6)), "
    f"reduce={by_node('reduce')}, reduce_concat=(2, 3, 4, 5), connectN=None, connects=None)",
    "JSON": DARTS_V2.to_json(),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_each_form_is_the_published_cell_as_text_file_and_parameter(text: str, tmp_path: Path):
    assert Genotype.from_text(text) == DARTS_V2
    (tmp_path / "cell.py").write_text(text)
    params = check(EvaluateParams, PARAMETERS | {"genotype": text})
    for name in (text, params.genotype, str(tmp_path / "cell.py")):
        assert read_genotype(name) == DARTS_V2
    assert params.slug() == ("DARTS_V2-e0" if "V2" in text else "genotype-e0" if "PM" in text else "cell-e0")


def test_pictures_and_the_command_take_the_same_texts(tmp_path: Path):
    assert plots.draw_genotype(PRINTED).axes
    (tmp_path / "p.yaml").write_text("epochs: 1\n")
    for text in (PRINTED, f"DARTS_V2 = {PRINTED}", BENCHMARK):
        params = read_params(EvaluateParams, tmp_path / "p.yaml", ["-p", "genotype", text])
        assert read_genotype(params.genotype) == Genotype.from_text(text)
    assert read_genotype(BENCHMARK).to_string() == BENCHMARK
    (tmp_path / "cell.txt").write_text(f"{BENCHMARK}\n")
    assert read_genotype(str(tmp_path / "cell.txt")).to_string() == BENCHMARK


def test_edges_with_their_node_are_ordered_by_it_and_missing_ones_are_none():
    text = "Genotype(normal=[('sep_conv_3x3', 5, 0), ('skip_connect', 2, 1), ('skip_connect', 3, 1), "
    text += "('skip_connect', 3, 2), ('max_pool_3x3', 4, 3), ('max_pool_3x3', 4, 0)], reduce={reduce})"
    cell = Genotype.from_text(text.format(**KEYWORDS))
    assert cell.normal == [
        ("skip_connect", 1), ("none", 0), ("skip_connect", 1), ("skip_connect", 2),
        ("max_pool_3x3", 3), ("max_pool_3x3", 0), ("sep_conv_3x3", 0), ("none", 1),
    ]  # fmt: skip
    with pytest.raises(ParameterError, match="node 5 has no edge"):
        Genotype.from_text(text.replace("('sep_conv_3x3', 5, 0), ", "").format(**KEYWORDS))
    with pytest.raises(ParameterError, match="node 3 is not one of 2 to 5 with at most two edges"):
        Genotype.from_text(text.replace("('max_pool_3x3', 4, 3)", "('max_pool_3x3', 3, 0)").format(**KEYWORDS))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "dil_conv_3x3",
            "conv_7x1_1x7",
            "'conv_7x1_1x7' is not one of none, max_pool_3x3, avg_pool_3x3, skip_connect,",
        ),
        ("range(2, 6)", "range(2, 5)", r"normal_concat is range\(2, 5\); a cell here concatenates its four nodes"),
        ("range(2, 6)", "[2, 3, 4, 6]", "a cell here concatenates its four nodes, 2 to 5"),
        ("range(2, 6)", "range(10**30)", "literals only"),
        ("range(2, 6)", "__import__('os').system('true')", "literals only"),
        ("('skip_connect', 2)", "('skip_connect', 5)", "takes input 5; it can take 0 to 2"),
        ("('skip_connect', 2)", "('skip_connect', 2.0)", "should be a valid integer"),
        (", ('dil_conv_3x3', 2)", "", "normal cell has 7 edges; a cell has 8"),
        ("normal=", "cells=", "cells is not one of normal, normal_concat, reduce, reduce_concat"),
        ("reduce_concat=range(2, 6))", "", "literals only"),
        ("('sep_conv_3x3', 0)", "0", "literals only"),
        (PRINTED, f"{PRINTED} {PRINTED.replace('dil_conv_3x3', 'sep_conv_3x3')}", "has 2 of them; keep the one"),
        (PRINTED, "Genotype()", "normal cell has 0 edges"),
        (PRINTED, "cell of DARTS", "the text is not JSON, nor Genotype"),
    ],
)
def test_what_is_no_cell_is_refused_in_one_sentence(old: str, new: str, message: str):
    with pytest.raises(ParameterError, match=message) as error:
        Genotype.from_text(PRINTED.replace(old, new, 1))
    assert "\n" not in str(error.value)


@given(st.lists(st.sampled_from([*PRINTED.split(" "), "(", ")", "[", "]", "range", ",", "None", "=", "Genotype("])))
@settings(max_examples=200, deadline=None)
def test_any_text_around_the_call_is_a_cell_or_refused(words: list[str]):
    try:
        Genotype.from_text("Genotype(" + " ".join(words))
    except ParameterError as error:
        assert "\n" not in str(error)


def test_all_published_cells_are_printed_and_read_again():
    """In the form of their authors, from the table of 174 cells, if the data folder has it."""
    for row in published():
        cells = {kind: [tuple(edge) for edge in json.loads(row[kind])] for kind in ("normal", "reduce")}
        text = f"{row['name']} = Genotype(normal={cells['normal']}, normal_concat={row['normal_concat']}, "
        text += f"reduce={cells['reduce']}, reduce_concat={row['reduce_concat']})"
        assert Genotype.from_text(text) == Genotype.model_validate(cells)
