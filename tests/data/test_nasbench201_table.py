"""The table of NAS-Bench-201: its known rows, what is computed from it, and what it refuses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from helpers.small_table import random_table, write_table
from pandas.testing import assert_frame_equal

from hdarts.data.nasbench201_table import DARTS_PUBLISHED, FILE, BenchmarkTable, table_path
from hdarts.errors import ParameterError
from hdarts.space import Genotype

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|"
DARTS_V2 = ROOT / "params" / "genotypes" / "darts-v2.json"


@pytest.fixture(scope="module")
def true() -> BenchmarkTable:
    if table_path() is None:
        pytest.skip(f"{FILE} is in no data folder; HDARTS_DATA names one")
    return BenchmarkTable.read()


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return random_table()


def test_the_best_cell_and_the_cell_of_skips_have_their_published_accuracies(true: BenchmarkTable):
    best, skips = true.lookup(true.cells.index[6111]), true.lookup(SKIPS)
    assert round(best["cifar10_test"], 2) == 94.37 and round(best["cifar10_validation"], 2) == 91.61
    assert (best["cifar10_rank"], best["cifar10_regret"]) == (1, 0)
    assert round(skips["cifar10_test"], 2) == DARTS_PUBLISHED
    assert round(skips["imagenet16_120_test"], 2) == 16.32
    assert skips["skips"] == 6
    for index, column, accuracy in ((9930, "cifar100_test", 73.51), (857, "imagenet16_120_test", 47.31)):
        row = true.lookup(true.cells.index[index])
        assert round(row[column], 2) == accuracy and row[column.replace("test", "rank")] == 1


def test_a_random_cell_and_the_best_of_ten_have_their_known_accuracies(true: BenchmarkTable):
    assert round(true.best_of(1), 2) == 87.06
    assert round(true.best_of(10), 1) == 93.0


def test_cells_that_compute_the_same_function_differ_by_training_noise(true: BenchmarkTable):
    assert [round(true.noise(data), 2) for data in ("cifar10", "cifar100", "imagenet16_120")] == [0.25, 0.44, 0.63]


def test_rank_percentile_and_regret_count_the_cells_that_are_better_and_worse(frame: pd.DataFrame):
    tests = frame["cifar100_test_200ep"].to_numpy().copy()
    tests[np.argsort(tests)[-2:]] = 99.0  # two best ones
    table = BenchmarkTable.from_frame(frame.assign(cifar100_test_200ep=tests))
    for place in (0, 7000, int(tests.argmax())):
        row = table.lookup(str(frame.at[place, "architecture"]))
        assert row["cifar100_test"] == tests[place]
        assert row["cifar100_rank"] == 1 + (tests > tests[place]).sum()
        assert row["cifar100_percentile"] == pytest.approx(100 * (tests < tests[place]).mean())
        assert row["cifar100_regret"] == 99.0 - tests[place]


def test_a_genotype_and_its_string_find_the_same_row(frame: pd.DataFrame):
    table = BenchmarkTable.from_frame(frame.sample(frac=1, random_state=0))
    assert table.lookup(Genotype.from_string(BEST)) == table.lookup(BEST)
    assert table.lookup(BEST)["cell"] == BEST


def test_noise_is_the_spread_within_groups(frame: pd.DataFrame):
    tests = frame["cifar10_test_200ep"].to_numpy()[:15_624].reshape(-1, 3)  # the last cell is alone in its group
    assert BenchmarkTable.from_frame(frame).noise("cifar10") == pytest.approx(np.sqrt(tests.var(axis=1, ddof=1).mean()))


def test_the_best_of_some_draws_agrees_with_simulated_draws(frame: pd.DataFrame):
    table, draw = BenchmarkTable.from_frame(frame), np.random.default_rng(1)
    drawn = draw.integers(len(frame), size=(20_000, 4))
    best = frame["cifar10_valid_200ep"].to_numpy()[drawn].argmax(axis=1)
    simulated = frame["cifar10_test_200ep"].to_numpy()[drawn[np.arange(len(drawn)), best]]
    assert table.best_of(4) == pytest.approx(simulated.mean(), abs=4 * simulated.std() / np.sqrt(len(simulated)))
    assert table.best_of(1) == pytest.approx(table.cells["cifar10_test"].mean())


def test_a_table_is_found_in_the_data_folder_and_below_it(tmp_path: Path, monkeypatch, frame: pd.DataFrame):
    monkeypatch.setenv("HDARTS_DATA", str(write_table(tmp_path)))
    assert_frame_equal(BenchmarkTable.read().cells, BenchmarkTable.from_frame(frame).cells)
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path / "nasbench201"))
    assert table_path() == tmp_path / "nasbench201" / FILE


def test_a_missing_table_is_reported_with_its_place_and_how_to_make_it(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path))
    message = (
        r"nasbench201.parquet is not in .* put it there, or make it from .*NATS-Bench.* with hdarts convert-benchmark"
    )
    with pytest.raises(ParameterError, match=message):
        BenchmarkTable.read()


def test_bad_tables_are_named(frame: pd.DataFrame, tmp_path: Path, monkeypatch):
    (tmp_path / FILE).write_text("no parquet")
    monkeypatch.setenv("HDARTS_DATA", str(tmp_path))
    with pytest.raises(ParameterError, match=r"nasbench201.parquet: cannot be read as Parquet"):
        BenchmarkTable.read()
    with pytest.raises(ParameterError, match=r"table: lacks the column 'cifar100_test_200ep' of"):
        BenchmarkTable.from_frame(frame.drop(columns="cifar100_test_200ep"))
    with pytest.raises(ParameterError, match=r"lacks 2 of the 15,625 cells, such as \|avg_pool_3x3~0\|\+"):
        BenchmarkTable.from_frame(frame.drop(index=[15_623, 15_624]))
    with pytest.raises(ParameterError, match=r"has 15,626 rows for the 15,625 cells"):
        BenchmarkTable.from_frame(pd.concat([frame, frame.tail(1)]))
    for wrong in (float("nan"), 101.0, "much"):
        worse = frame.astype({"cifar10_test_200ep": object})
        worse.loc[6111, "cifar10_test_200ep"] = wrong
        with pytest.raises(ParameterError, match=r"cifar10_test of \|.* is .*, which is not a percentage"):
            BenchmarkTable.from_frame(worse)


def test_cells_of_other_spaces_are_refused_by_name(frame: pd.DataFrame):
    table = BenchmarkTable.from_frame(frame)
    with pytest.raises(ParameterError, match=r"'\|skip_connect~0\|' is not of the form"):
        table.lookup("|skip_connect~0|")
    with pytest.raises(ParameterError, match="of space darts, which has no string form"):
        table.lookup(Genotype.from_json(DARTS_V2.read_text()))
