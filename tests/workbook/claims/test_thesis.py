"""The thesis's numbers are copied exactly, and comparing it with itself finds its known errors."""

import itertools
import math
import re
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pandas as pd
import pytest

from hdarts.workbook.claims import thesis
from hdarts.workbook.claims.thesis.counts import memory_of_hyperdarts_1, parameters
from hdarts.workbook.claims.thesis.read import Tables, table
from hdarts.workbook.claims.thesis.stated import STATED

NAMES = sorted(path.name for path in files("hdarts.workbook.claims.thesis").iterdir() if path.name.endswith(".csv"))
NUMBERED = [int(name[5:7]) for name in NAMES if re.fullmatch(r"table\d\d\.csv", name)]


def words(line: str) -> list[float | str]:
    """The cells of a table's line: numbers as numbers, `97.24 ± 0.10` as two, empty ones left out."""
    found: list[str] = []
    line = re.sub(r"([\d.]+) \\times 10\^\{-(\d+)\}", lambda m: f"{float(m[1]) / 10 ** int(m[2]):.6f}", line)
    line = re.sub(r"<b>|</b>|\$", "", line).replace(r"\pm", "±").replace(r"\beta ", "β")
    line = re.sub(r"\b(Yes|No)\b", lambda match: match[0].lower(), line)
    for cell in line.split("\t"):
        cell = cell.strip()
        kernel = re.fullmatch(r"(\d+) \\times (\d+) \\times (\d+) \\times (\d+) = (\d+)", cell)
        cited = re.fullmatch(r"(.+?) *\[(\d+)\]", cell)
        match = kernel or cited
        parts = match.groups() if match else cell.split(" ± ")
        found += [part for part in parts if part not in ("", "-")]
    return [float(word) if re.fullmatch(r"[\d.]+", word) else word for word in found]


def test_all_23_tables_are_there():
    assert list(range(1, 24)) == NUMBERED


@pytest.mark.parametrize("number", NUMBERED)
def test_table_equals_that_of_the_thesis(number: int, thesis_lines: list[str]):
    rows = table(number)
    assert len(rows) > 1
    for row in rows.to_dict("records"):
        line = int(row.pop("line"))
        typed = [value for value in row.values() if not (isinstance(value, float) and math.isnan(value))]
        assert typed == pytest.approx(words(thesis_lines[line])), f"line {line}"


def test_table_has_all_rows_of_the_thesis(thesis_lines: list[str]):
    for number in NUMBERED:
        typed = sorted(table(number)["line"])
        assert typed == list(range(typed[0], typed[0] + len(typed)))
        after = words(thesis_lines[typed[-1] + 1])
        assert not (after and re.fullmatch(r"[\d.]+|hyperDARTS-\d", str(after[0])))


def test_quotes_of_statements_are_on_their_lines(thesis_lines: list[str]):
    for one in STATED:
        assert one.quote in thesis_lines[one.line], one
        if re.fullmatch(r"[\d.]+", one.value) and one.tolerance is None:
            assert one.value in one.quote, one
        if one.elsewhere:
            assert str(one.recompute(Tables())) in thesis_lines[one.elsewhere], one


def test_costs_and_memory_are_on_their_lines(thesis_lines: list[str]):
    for name, column in (("costs", "hours"), ("memory", "percent")):
        for row in table(name).to_dict("records"):
            assert re.search(rf"\b{row[column]}( GPU hours| hours|%)", thesis_lines[row["line"]]), row


def test_captions_and_their_experiments_are_those_of_the_thesis(thesis_lines: list[str]):
    for row in table("captions").fillna("").to_dict("records"):
        name = f"**Fig. {row['number']}." if row["kind"] == "figure" else f"Table {row['number']}:"
        assert thesis_lines[row["line"]].startswith(name), row
        assert row["says"] in thesis_lines[row["line"]]
        heads = [re.match(r"#+ ([\d.]+) (?:Experiment ([\d.]+))?", line) for line in thesis_lines[: row["text_line"]]]
        last = [head for head in heads if head][-1]
        if row["experiment"] not in (last[2], last[1]):  # figures float; their text does not
            assert row["line"] == row["text_line"], row


def test_columns_cells_and_captions_are_read_by_name():
    tables = Tables()
    assert tables.column(10, "cifar10") == [97.13, 96.91]
    assert tables.column(13, "cifar100")[-1] == 82.92, "empty cells are left out"
    assert tables.cell(8, "validation_accuracy", 2.0) == 90.228
    assert tables.cell(14, "weights", "0 & 1") == 144.0
    assert tables.caption("figure", number=34)["experiment"] == "2.2"
    with pytest.raises(ValueError, match="0 rows of table 8 are named 7"):
        tables.cell(8, "eta_w", 7)
    with pytest.raises(ValueError, match="no table '99'"):
        table(99)


def test_parameter_counts_are_those_of_the_thesis_in_millions():
    counts = parameters()
    assert counts["hyperdarts-1"] == 207.021434
    assert counts["hyperdarts-2"] == 113.183354
    assert counts["darts"] < 2
    assert counts["ratio"] > 100


def test_the_thesis_counts_of_weights_are_explained():
    sizes = thesis.model_sizes().set_index("model")
    assert sizes.loc["DARTS", ["trained", "hypernetwork"]].tolist() == [1_930_618, 0]
    assert sizes.loc["hyperDARTS-1, linear", "trained"] == 206_921_984 + 99_450
    assert sizes.loc["hyperDARTS-2, one perceptron per convolution", "trained"] == 113_083_904 + 99_450
    assert sizes.loc["the same, one hidden layer per kind of cell", "hypernetwork"] == 104_389_232
    assert sizes.loc["embedding vectors, z = 32", "trained"] < 2_000_000


def test_memory_grows_with_the_batch_and_the_weights():
    share = {size: memory_of_hyperdarts_1(Tables(), size) for size in (32, 48, 64)}
    assert share[32] == pytest.approx(67)
    assert share[48] == pytest.approx(89, abs=2)
    assert share[64] > 100  # so 64 images do not fit
    assert share[48] * 2 == pytest.approx(share[32] + share[64])


def test_known_slips_of_the_thesis_are_found():
    found = thesis.disagreements()
    places = {(row["place"], row["stated"], row["recomputed"]) for row in found.to_dict("records")}
    assert places >= {
        ("table 3", "83.30", "82.302"),
        ("table 3", "0.08", "0.124"),
        ("table 7", "97.8760", "89.876"),
        ("note of table 7", "32", "48"),
        ("5.2.2.4", "97.13", "97.02"),
        ("5.2.3", "16", "11"),
        ("5.3.1.1", "13", "14"),
        ("5.3.2", "25", "34"),
        ("caption of table 21", "2.4", "2.2"),
        ("3.4.2", "4.3", "4.4.2"),
        ("table 23", "0.2", "0.3"),
        ("table 23", "2.6", "1.3"),
        ("5.3", "supernet", "hypernetwork"),
    }


def test_disagreements_have_a_cause_and_agreements_none():
    found = thesis.check_statements()
    assert (found["cause"] != "").equals(~found["agrees"])


def planted(name: int | str, row: int, column: str, value: float | str):
    """A reader of the thesis's tables with one value changed."""

    def read(requested: int | str) -> pd.DataFrame:
        rows = table(requested)
        if requested == name:
            assert rows.loc[row, column] != value
            rows[column] = rows[column].astype(object)
            rows.loc[row, column] = value
            rows = rows.infer_objects()
        return rows

    return read


def changes(**planted: Any) -> set[tuple[str, str]]:
    """The statements whose agreement changes with a planted error."""
    before, after = (
        rows[["place", "what", "agrees"]] for rows in (thesis.check_statements(), thesis.check_statements(**planted))
    )
    changed = before["agrees"] != after["agrees"]
    return set(zip(after["place"][changed], after["what"][changed], strict=True))


@pytest.mark.parametrize(
    ("name", "row", "column", "value", "place"),
    [
        (21, 2, "cifar10", 96.64, "6.1"),  # a slip of a digit changes the mean, wherever it is stated
        (13, 4, "cifar100", 83.92, "executive summary"),
        (2, 1, "validation_accuracy", 89.972, "5.1"),  # another search is the best one
        (20, 0, "skip", "no", "5.3.2"),  # the selected search would have been left out
        (22, 1, "search_hours", 74.0, "table 23"),
        (8, 3, "eta_w", 0.0526, "5.2.2.3"),
        ("captions", 19, "experiment", "2.4", "caption of table 21"),
    ],
)
def test_planted_error_in_a_table_is_found(name, row, column, value, place):
    assert place in {where for where, _ in changes(read=planted(name, row, column, value))}


def test_planted_error_in_a_statement_is_found():
    wrong = [replace(one, value="97.42") if one.place == "executive summary" else one for one in STATED]
    assert changes(statements=wrong) >= {("executive summary", "DARTS, CIFAR-10, mean")}


def test_corrected_thesis_has_no_disagreements():
    read = planted(7, 0, "validation_accuracy", 89.876)
    assert changes(read=read) == {("5.2.2.2", "validation accuracies of table 7 against table 5")}
    recomputed = thesis.check_statements()["recomputed"]
    right = [
        replace(one, value=value, tolerance=1, relation="=") for one, value in zip(STATED, recomputed, strict=True)
    ]
    assert thesis.disagreements(statements=right).empty


def test_number_agrees_within_half_a_unit_of_its_last_digit():
    (mean,) = (one for one in STATED if (one.place, one.what) == ("table 22", "DARTS, cifar10, mean"))  # 97.236
    for text, agrees in (("97.24", True), ("97.2", True), ("97.236", True), ("97.23", False), ("97.25", False)):
        assert thesis.disagreements(statements=[replace(mean, value=text)]).empty == agrees, text


def test_deviations_of_the_thesis_are_those_of_a_population():
    found = {(row["place"], row["stated"]): row["fits"] for row in thesis.deviations().to_dict("records")}
    assert set(found.values()) == {"population", "both", "neither"}
    assert found["table 3", "0.10"] == "population"
    assert [where for where, fits in found.items() if fits == "neither"] == [("table 3", "0.08")]


def test_share_of_overfitted_searches_has_a_wide_interval():
    found = thesis.overfitting().set_index("place")
    row = found.loc["5.3.2, with 8 searches not listed"]
    assert (row["searches"], row["without_skip"]) == (12, 3)
    assert 0.05 < row["low"] < 0.25 < 0.57 < row["high"] < 0.58
    assert found.loc["table 17", "without_skip"] == 0


def test_differences_between_the_models_of_the_thesis_are_tested_both_ways():
    rows = thesis.significance().set_index(["models", "data"])
    row = rows.loc[("hyperDARTS-1 - DARTS", "cifar10")]
    a, b = (thesis.table(number)["cifar10"].to_numpy() for number in (13, 3))
    assert row["difference"] == pytest.approx(a.mean() - b.mean()) and row["n"] == "10, 5"
    standard_error = (a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) ** 0.5
    assert (row["low"] + row["high"]) / 2 == pytest.approx(row["difference"])
    assert row["low"] < row["difference"] - 1.96 * standard_error
    sums = [sum(chosen) for chosen in itertools.combinations([*a, *b], len(a))]
    middle, far = sum([*a, *b]) * len(a) / 15, abs(a.sum() - sum([*a, *b]) * len(a) / 15) - 1e-9
    assert row["p_exact"] == pytest.approx(sum(abs(s - middle) >= far for s in sums) / len(sums), rel=0.3)
