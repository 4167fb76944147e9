"""Numbers and tables as text."""

import pandas as pd
import pytest

from hdarts.workbook.formatting import format_column, format_table, format_value

NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "text"),
    [(97.25612, "97.26"), (3.0, "3"), (7, "7"), (1e-5, "1e-05"), (NAN, ""), (None, ""), ("x", "x"), (True, "True")],
)
def test_numbers_have_four_digits(value: object, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([96.8, 89.64, NAN, 0.5], ["96.80", "89.64", "", "0.50"]),
        ([0.25, 0.0, 0.8059], ["0.2500", "0.0000", "0.8059"]),
        ([1e-9, 2.5], ["1e-09", "2.5"]),
        ([2.0, 40.0], ["2", "40"]),
        ([1, 2.5], ["1", "2.5"]),
        (["a.b", None], ["a.b", ""]),
    ],
)
def test_numbers_of_a_column_have_the_same_decimals_unless_one_loses_its_digits(values: list, words: list[str]) -> None:
    assert format_column(values) == words


def test_tables_are_aligned() -> None:
    frame = pd.DataFrame({"method": ["a", "long"], "accuracy": [97.256, 9.5], "seed": [2, 20], "note": [None, "x"]})
    assert format_table(frame.to_dict("records")).splitlines() == [
        "method  accuracy  seed  note",
        "a          97.26     2",
        "long         9.5    20  x",
    ]
