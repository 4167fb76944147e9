"""Splits, subsets, statistics and digests of loaded images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import encode, picture, rows_of, write_parquet

from hdarts.data import in_order, load
from hdarts.data.subsets import balanced_subset, stratified_split
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator


def test_the_split_is_class_balanced_disjoint_complete_and_a_function_of_the_split_seed(parquet: Path) -> None:
    first, again, other = (load(str(parquet), split_seed=seed) for seed in (1, 1, 2))
    assert first.validation is not None and again.validation is not None
    assert torch.equal(first.train.pixels, again.train.pixels)
    assert torch.equal(first.validation.pixels, again.validation.pixels)
    assert rows_of(first.train) != rows_of(other.train)
    assert not rows_of(first.train) & rows_of(first.validation)
    assert len(rows_of(first.train) | rows_of(first.validation)) == 24
    assert torch.bincount(first.train.labels).tolist() == torch.bincount(first.validation.labels).tolist() == [4, 4, 4]
    assert first.digest == again.digest != other.digest


@pytest.mark.parametrize(("fraction", "sizes"), [(0.25, (18, 6)), (0.75, (6, 18)), (0.0, (24, 0))])
def test_the_validation_part_is_the_requested_fraction(parquet: Path, fraction: float, sizes: tuple[int, int]) -> None:
    splits = load(str(parquet), validation_fraction=fraction)
    validation = splits.validation
    assert (len(splits.train), len(validation) if validation else 0) == sizes


def test_a_split_of_uneven_classes_keeps_their_shares() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [2] * 7)[torch.randperm(147, generator=generator(0, "order"))]
    rest, chosen = stratified_split(labels, 0.3, generator(0, "split"))
    assert sorted(rest.tolist() + chosen.tolist()) == list(range(147)) and len(chosen) == round(0.3 * 147)
    for label, count in ((0, 30), (1, 12), (2, 2.1)):
        assert abs((labels[chosen] == label).sum() - count) < 0.5


def test_a_subset_has_equally_many_of_each_class_and_a_smaller_one_lies_within_a_larger() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [2] * 7)
    subsets = [balanced_subset(labels, count, generator(3, "subset")) for count in (12, 30, 60)]
    assert torch.bincount(labels[subsets[0]]).tolist() == [4, 4, 4]
    assert torch.bincount(labels[subsets[2]]).tolist() == [27, 26, 7]
    assert set(subsets[0].tolist()) < set(subsets[1].tolist()) < set(subsets[2].tolist())
    assert set(subsets[0].tolist()) != set(balanced_subset(labels, 12, generator(4, "subset")).tolist())


def test_the_limits_choose_the_same_images_for_every_split_seed(parquet: Path) -> None:
    first, second = (load(str(parquet), limit=12, split_seed=s, test=True, test_limit=3) for s in (1, 2))
    assert first.test is not None and second.test is not None and len(first.test) == 3
    assert rows_of(first.train) | rows_of(first.validation) == rows_of(second.train) | rows_of(second.validation)
    assert torch.equal(first.test.pixels, second.test.pixels)


def test_all_parts_are_normalised_by_the_statistics_of_the_training_part(parquet: Path) -> None:
    splits = load(str(parquet), test=True)
    assert splits.validation is not None and splits.test is not None
    scaled = splits.train.pixels.double() / 255
    torch.testing.assert_close(splits.mean.double(), scaled.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(splits.std.double(), scaled.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)
    for part in (splits.train, splits.validation, splits.test):
        x, _ = next(in_order(part, 100))
        mean, std = (value.double()[:, None, None] for value in (splits.mean, splits.std))
        torch.testing.assert_close(x.double(), (part.pixels.double() / 255 - mean) / std, rtol=1e-6, atol=1e-6)


def test_a_channel_that_never_varies_is_normalised_to_zero(tmp_path: Path) -> None:
    blob = encode(np.full((2, 2), 200, dtype=np.uint8))
    write_parquet(tmp_path / "train-0.parquet", [blob] * 5000, [0, 1] * 2500, rows_per_group=5000)
    x, _ = next(in_order(load(str(tmp_path), validation_fraction=0.0).train, 10))
    assert x.abs().max() < 1e-6


def test_the_digest_identifies_pixels_and_labels(parquet: Path, tmp_path: Path) -> None:
    plain = load(str(parquet))
    assert len(plain.digest) == 64
    assert len({plain.digest, load(str(parquet), test=True).digest, load(str(parquet), limit=12).digest}) == 3
    labels = [seed % 3 for seed in range(24)]
    blobs: list[bytes | None] = [encode(picture(seed)) for seed in range(24)]
    write_parquet(tmp_path / "same" / "train-0.parquet", blobs, labels)
    assert load(str(tmp_path / "same")).digest == plain.digest
    write_parquet(tmp_path / "other" / "train-0.parquet", [encode(picture(99)), *blobs[1:]], labels)
    assert load(str(tmp_path / "other")).digest != plain.digest
    digests = set()
    for swapped in (labels, [labels[1], labels[0], *labels[2:]]):
        write_parquet(tmp_path / "other" / "train-0.parquet", blobs, swapped)
        digests.add(load(str(tmp_path / "other"), validation_fraction=0.0).digest)
    assert len(digests) == 2


def test_images_of_the_first_release_stay_the_same() -> None:
    """A run whose images changed is not the same run; tests/fixtures/runs-0.1.0 has the first two digests."""
    whole = {"test": True, "validation_fraction": 0.0, "limit": 80, "test_limit": 40}
    some = {"test": True, "validation_fraction": 0.3, "limit": 103, "test_limit": 50, "split_seed": 4}
    loaded = load("generated", limit=80), load("generated", **whole), load("digits", **some)  # type: ignore[arg-type]
    assert [splits.digest[:8] for splits in loaded] == ["3961b5df", "a38e704a", "7443a005"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": -1}, "limit is -1 and has to be 0 or more"),
        ({"test_limit": -1}, "test_limit is -1"),
        ({"image_size": -4}, "image_size is -4"),
        ({"limit": 2}, r"limit of set is 2 and has to be 0 or from 3 \(one per class\) to 24 \(all images\)"),
        ({"limit": 25}, "limit of set is 25"),
        ({"test_limit": 7, "test": True}, "test_limit of set is 7"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0 and has to be from 0 to below 1"),
        ({"validation_fraction": -0.1}, "validation_fraction is -0.1"),
        ({"validation_fraction": 0.01}, "validation_fraction 0.01 of 24 images leaves no validation part"),
        ({"validation_fraction": 0.99}, "validation_fraction 0.99 of 24 images leaves no training part"),
        ({"device": "abacus"}, "device 'abacus' cannot be used here"),
    ],
)
def test_impossible_values_are_refused_by_name(parquet: Path, arguments: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        load(str(parquet), **arguments)
