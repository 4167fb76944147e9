"""The selection rule of the thesis (section 4.7)."""

import json
import math
from pathlib import Path

import pytest

from hdarts.errors import ParameterError
from hdarts.runs.atomic import write_atomic
from hdarts.space import Genotype
from hdarts.workbook.analysis.selection import candidate, select

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
    assert candidate("study/a") == ("study/a", WITH_SKIP, 88.25, 20)
    with pytest.raises(ParameterError, match="study/b is not a search with a validation accuracy"):
        candidate("study/b")
    with pytest.raises(ParameterError, match="study/c has no result"):
        candidate("study/c")
