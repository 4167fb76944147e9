"""The README's table of the quick study is made from its results."""

from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT

from hdarts.errors import ParameterError
from hdarts.workbook.book.readme import table_of, write_table

ROW = {
    "arm": "darts-first",
    "searches": 2,
    "validation_accuracy_mean": 89.571,
    "validation_accuracy_best": 90.129,
    "skips_normal": "1 2",
    "cells_tested": 1,
    "evaluations": 2,
    "last_test_accuracy_mean": 98.331,
    "last_test_accuracy_sd": 0.788,
    "sd_over": "evaluations",
    "best_epoch_test_accuracy_mean": 98.611,
}
NONE = {"validation_accuracy_mean": None, "validation_accuracy_best": None}
RESULTS = pd.DataFrame([ROW, ROW | NONE | {"arm": "random", "cells_tested": 2, "evaluations": 4, "sd_over": "cells"}])


def test_a_row_has_the_numbers_of_the_results():
    _, _, first, random = table_of(RESULTS).splitlines()
    assert first == "| darts-first | 89.57 (90.13) | 1, 2 | 2 | 98.33 (0.79) | 98.61 |"
    assert random == "| random | never selected | 1, 2 | 4 | 98.33 (0.79 over the means of 2 cells) | 98.61 |"


def test_the_readme_has_the_table_of_the_kept_results():
    assert table_of(pd.read_csv(ROOT / "results/quick/results.csv")) in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_table_replaces_what_is_between_the_marks_and_nothing_else(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- quick study: begin -->\nold\n<!-- quick study: end -->\nafter\n")
    write_table(RESULTS, page)
    once = page.read_text()
    assert (
        once.startswith("before\n") and once.endswith("\nafter\n") and table_of(RESULTS) in once and "old" not in once
    )
    write_table(RESULTS, page)
    assert page.read_text() == once


def test_a_page_without_marks_is_refused_and_stays_as_it_is(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ParameterError, match="quick study: begin"):
        write_table(RESULTS, page)
    assert page.read_text() == "nothing\n"
