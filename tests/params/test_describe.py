"""The table of parameters in a notebook, and presets that it is compared with."""

import re
from html import unescape

import pytest

from hdarts.errors import ParameterError
from hdarts.params import EvaluateParams, SearchParams, collect, describe, identity
from hdarts.params.base import Parameters
from hdarts.params.describe import documentation
from hdarts.runs.paths import preset_values, with_defaults

DEFAULTS = with_defaults(SearchParams, {})
CHANGED = with_defaults(SearchParams, {"epochs": 7, "momentum": 0.5})


def rows(table: str) -> list[list[str]]:
    """Return the texts of the cells of an HTML table, row by row, below the head."""
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[unescape(text) for text in row] for row in found if row]


def test_the_table_has_what_differs_and_folds_all_parameters():
    short, folded = describe(CHANGED, DEFAULTS)._repr_html_().split("<details>")
    assert "Parameters that differ (≠) from the defaults: 2." in short and ">default<" in short
    shown = {name: row for row in rows(short) for name in row[1:2]}
    assert shown.keys() == {"epochs", "momentum"}
    assert shown["momentum"] == ["≠", "momentum", "0.5", "0.9", documentation(SearchParams)["momentum"]]
    assert shown["epochs"][:4] == ["≠", "epochs", "7", "4"]
    everything = {row[1]: row for row in rows(folded)}
    assert list(everything) == list(documentation(SearchParams))
    assert everything["momentum"][0] == "≠" and everything["data"][:3] == ["", "data", "'digits'"]
    assert "<table>" not in describe(DEFAULTS, DEFAULTS)._repr_html_().split("<details>")[0]
    assert f"All {len(SearchParams.model_fields)} parameters" in folded


def test_as_text_it_has_the_same_without_the_rest():
    lines = repr(describe(CHANGED, DEFAULTS)).splitlines()
    assert lines[0] == "Parameters that differ (≠) from the defaults: 2."
    assert sorted(lines[1:]) == [
        "epochs = 7 (default 4): passes over the training images",
        "momentum = 0.5 (default 0.9): of SGD on the weights",
    ]


def test_the_documentation_is_the_comment_behind_a_field_or_above_it_and_the_allowed_values():
    texts = documentation(SearchParams)
    assert texts["limit"] == "class-balanced subset of the training images; 0: all"
    assert texts["rest"].startswith("weights outside the cells") and texts["rest"].endswith("(learned | generated)")
    assert texts["method"].startswith("hypergradient that steps alpha (random | shared-weights | darts-first")


def test_a_preset_gives_what_the_notebook_does_not_set():
    preset = preset_values("search/darts-second")
    cell = {name: value for name, value in CHANGED.model_dump().items() if name in ("epochs", "momentum")}
    required = {n: getattr(DEFAULTS, n) for n, field in SearchParams.model_fields.items() if field.is_required()}
    found = collect(SearchParams, {**required, **cell, "preset": "search/darts-second"}, preset)
    assert (found.epochs, found.momentum, found.channels) == (7, 0.5, 4)
    assert found.log_every == preset["log_every"] == 50 and found.flip is preset["flip"] is True
    text = repr(describe(found, with_defaults(SearchParams, preset), "search/darts-second"))
    assert "from the preset search/darts-second: 8." in text and "channels = 4 (preset 16)" in text
    assert "flip" not in text, "it is that of the preset"


def test_an_unknown_preset_is_refused_with_the_nearest_ones():
    assert preset_values("") == {}
    with pytest.raises(ParameterError, match=r"preset: 'search/dart-second' .* one of search/darts-second"):
        preset_values("search/dart-second")


def test_the_defaults_of_the_notebooks_name_the_runs_that_they_named_when_cells_had_all_of_them():
    assert identity(DEFAULTS) == "28d0c7e9"
    assert identity(with_defaults(EvaluateParams, {})) == "856c5668"
    fields = SearchParams.model_fields.keys() | EvaluateParams.model_fields.keys()
    assert Parameters.from_the_start <= fields
