"""The selection rule of the thesis (section 4.7)."""

import json
import math
from pathlib import Path

import pytest

from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic
from hdarts.space import Genotype
from hdarts.workbook.analysis.selection import Candidate, candidate, select
from hdarts.workbook.analysis.size import Size

NODES = [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)] * 4
WITH_SKIP = Genotype(normal=[("skip_connect", 0), *NODES[1:]], reduce=NODES)
NO_SKIP = Genotype(normal=NODES, reduce=[("skip_connect", 0), *NODES[1:]])  # one in the reduction cell does not count


def test_best_search_with_a_skip_connection_is_chosen():
    selection = select([("a", WITH_SKIP, 88.2, 2), ("b", NO_SKIP, 90.0, 20), ("c", WITH_SKIP, 88.9, 200)])
    assert selection.chosen.run == "c"
    assert selection.chosen.genotype == WITH_SKIP
    table = selection.table.set_index("run")
    assert list(table.index) == ["a", "b", "c"]
    assert table["kept"].to_dict() == {"a": True, "b": False, "c": True}
    assert table["chosen"].to_dict() == {"a": False, "b": False, "c": True}
    assert table["skips_normal"].to_dict() == {"a": 1, "b": 0, "c": 1}
    assert "no skip connection" in str(table.loc["b", "why"])
    assert "higher validation accuracy" in str(table.loc["a", "why"])


def test_skip_connection_need_not_be_required():
    selection = select([("a", WITH_SKIP, 88.2, 2), ("b", NO_SKIP, 90.0, 20)], require_skip=False)
    assert selection.chosen.run == "b"
    assert selection.table["kept"].tolist() == [True, True]


def test_lowest_seed_of_equal_searches_is_chosen():
    selection = select([("a", WITH_SKIP, 88.0, 200), ("b", WITH_SKIP, 88.0, 20), ("c", WITH_SKIP, 88.0, 2000)])
    assert selection.chosen.search_seed == 20


def test_no_skip_connection_in_any_search_is_an_error():
    with pytest.raises(ParameterError, match=r"none of the 2 searches has a skip connection.*allow_no_skip: true"):
        select([("a", NO_SKIP, 88.0, 2), ("b", NO_SKIP, 89.0, 20)])


def test_best_of_all_is_chosen_if_allowed():
    selection = select([("a", NO_SKIP, 88.0, 2), ("b", NO_SKIP, 89.0, 20)], allow_no_skip=True)
    assert selection.chosen.run == "b"
    assert selection.table["kept"].tolist() == [False, False]
    assert selection.table["chosen"].tolist() == [False, True]
    assert "none has a skip connection" in selection.table["why"].iloc[1]


def test_allow_no_skip_changes_nothing_while_one_has_a_skip_connection():
    searches = [("a", WITH_SKIP, 80.0, 2), ("b", NO_SKIP, 89.0, 20)]
    assert select(searches, allow_no_skip=True).chosen.run == "a"


def test_search_without_a_finite_accuracy_is_disregarded():
    selection = select([("a", WITH_SKIP, math.nan, 2), ("b", WITH_SKIP, 50.0, 20)])
    assert selection.chosen.run == "b"
    assert selection.table["why"].iloc[0] == "disregarded: validation accuracy is nan"
    with pytest.raises(ParameterError, match="none of the 1 searches has a finite validation accuracy"):
        select([("a", WITH_SKIP, math.nan, 2)])


def test_no_searches_are_an_error():
    with pytest.raises(ParameterError, match="no searches"):
        select([])


def test_finished_search_is_read_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    result = {"genotype": WITH_SKIP.model_dump(), "best_validation_accuracy": 88.25, "search_seed": 20}
    write_atomic(tmp_path / "study" / "a" / "result.json", json.dumps(result))
    write_atomic(tmp_path / "study" / "b" / "result.json", json.dumps({"test_accuracy": 90.0}))
    assert candidate("study/a", 8, 5)[:4] == ("study/a", WITH_SKIP, 88.25, 20)
    with pytest.raises(ParameterError, match="study/b is not a search with a validation accuracy"):
        candidate("study/b")
    with pytest.raises(ParameterError, match="study/c has no result"):
        candidate("study/c")


SIZES = {"a": Size(3_000_000, 500), "b": Size(2_000_000, 900), "c": Size(1_000_000, 100)}
SIZED = [
    Candidate(run, WITH_SKIP, accuracy, 2, SIZES[run]) for run, accuracy in (("a", 90.0), ("b", 89.0), ("c", 80.0))
]


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        ((0, 0), "a"),
        ((3_000_000, 0), "a"),
        ((2_999_999, 0), "b"),
        ((2_999_999, 899), "c"),
        ((0, 500), "a"),
        ((0, 499), "c"),
    ],
)
def test_cells_whose_network_is_too_large_are_disregarded(limits: tuple[int, int], chosen: str):
    selection = select(SIZED, limits=Size(*limits))
    assert selection.chosen.run == chosen
    table = selection.table.set_index("run")
    assert table["parameters"].to_dict() == {run: size.parameters for run, size in SIZES.items()}
    for run in "abc"["abc".index(chosen) :]:
        assert table.loc[run, "kept"] == (SIZES[run].multiply_adds <= (limits[1] or 900))


def test_the_table_says_by_what_a_network_is_too_large():
    why = select(SIZED, limits=Size(2_500_000, 600)).table["why"]
    assert why.iloc[0] == "disregarded: 3,000,000 parameters, max_parameters is 2,500,000"
    assert why.iloc[1] == "disregarded: 900 multiply-adds, max_multiply_adds is 600"


def test_a_limit_that_no_network_keeps_names_the_smallest():
    smallest = r"too large; of the smallest: 1,000,000 parameters, max_parameters is 5"
    with pytest.raises(ParameterError, match=smallest):
        select(SIZED, limits=Size(5, 0), allow_no_skip=True)


def test_a_limit_on_a_network_of_unknown_size_is_refused():
    with pytest.raises(ParameterError, match=r"max_parameters: the cells of a have custom operations"):
        select([("a", WITH_SKIP, 90.0, 2)], limits=Size(5, 0))
    assert "parameters" not in select([("a", WITH_SKIP, 90.0, 2)], limits=Size(0, 0)).table
