"""Batches against a plain loop over images, their order, and their refusals."""

import pytest
import torch

from hdarts.data import Augmentation, Batches, Images, in_order
from hdarts.errors import ParameterError
from hdarts.runs.randomness import generator


def some_images(count: int, channels: int = 3, size: int = 8) -> Images:
    pixels = torch.randint(0, 256, (count, channels, size, size), generator=generator(0, "pixels")).byte()
    scaled = pixels / 255
    return Images(pixels, torch.arange(count), scaled.mean((0, 2, 3)), scaled.std((0, 2, 3)))


def augmented_by_loop(images: Images, rows: list[int], augmentation: Augmentation, draws: torch.Tensor) -> torch.Tensor:
    """Augment and normalise as DARTS does, one image at a time, in float64."""
    channels, height, width = images.shape
    pad, side = augmentation.crop_padding, augmentation.cutout
    result = torch.empty(len(rows), channels, height, width, dtype=torch.float64)
    for b, row in enumerate(rows):
        top, left, mirrored, y, x = draws[:, b].tolist()
        padded = torch.zeros(channels, height + 2 * pad, width + 2 * pad, dtype=torch.uint8)
        padded[:, pad : pad + height, pad : pad + width] = images.pixels[row]
        image = padded[:, top : top + height, left : left + width]
        image = image.flip(2) if mirrored else image
        for channel in range(channels):
            mean, std = images.mean[channel].double(), images.std[channel].double()
            result[b, channel] = (image[channel].double() / 255 - mean) / std
        if side:
            result[b, :, max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = 0
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(3, True, 4),
        Augmentation(2, False, 0),
        Augmentation(0, True, 0),
        Augmentation(0, False, 6),
    ],
)
def test_augmented_batches_equal_a_plain_loop_over_images(channels: int, augmentation: Augmentation) -> None:
    images = some_images(40, channels)
    batches = Batches(images, 20, augmentation)
    for step, (x, rows) in enumerate(batches.epoch(1, "train", 2)):  # the label of an image is its row
        draws = augmentation.draw(20, 8, 8, generator(1, "train", "augmentation", 2, step))
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert (x.dtype, rows.dtype) == (torch.float32, torch.int64)
        expected = augmented_by_loop(images, rows.tolist(), augmentation, draws)
        torch.testing.assert_close(x.double(), expected, rtol=1e-6, atol=1e-6)


def test_draws_reach_every_shift_both_mirrors_and_every_centre() -> None:
    top, left, mirrored, row, column = Augmentation(2, True, 4).draw(2000, 5, 7, generator(0, "draws"))
    assert top.unique().tolist() == left.unique().tolist() == [0, 1, 2, 3, 4]
    assert mirrored.unique().tolist() == [0, 1] and abs(mirrored.double().mean() - 0.5) < 0.05
    assert row.unique().tolist() == list(range(5)) and column.unique().tolist() == list(range(7))
    assert not Augmentation(2, False, 4).draw(100, 5, 7, generator(0, "draws"))[2].any()


def test_a_cutout_of_odd_side_has_that_side() -> None:
    augmentation = Augmentation(cutout=3)
    draws = torch.tensor([0, 0, 0, 4, 5])[:, None]
    zeros = augmentation.cut(torch.ones(1, 8, 8, 1), draws)[0, :, :, 0] == 0
    assert zeros.sum() == 9 and zeros[3:6, 4:7].all()


def test_each_epoch_visits_every_image_once_in_another_order() -> None:
    batches = Batches(some_images(30), 10)
    passes = {e: [int(y) for _, labels in batches.epoch(4, "train", e) for y in labels] for e in (0, 1)}
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(30)) and passes[0] != passes[1]
    for seed, purpose in ((5, "train"), (4, "validation")):
        assert [int(y) for _, labels in batches.epoch(seed, purpose, 0) for y in labels] != passes[0]


@pytest.mark.parametrize("start", [0, 1, 3, 4])
def test_a_pass_from_a_later_step_yields_exactly_the_rest_of_the_whole_pass(start: int) -> None:
    batches = Batches(some_images(43), 10, Augmentation(2, True, 4))
    whole = list(batches.epoch(7, "train", 3))
    rest = list(batches.epoch(7, "train", 3, start))
    assert len(whole) == len(batches) == 4 and len(rest) == 4 - start
    for (x, y), (x_rest, y_rest) in zip(whole[start:], rest, strict=True):
        assert torch.equal(x, x_rest) and torch.equal(y, y_rest)


@pytest.mark.parametrize("start", [0, 2, 3, 7])
def test_an_epoch_with_several_passes_is_shuffled_and_augmented_anew_in_each(start: int) -> None:
    batches = Batches(some_images(25), 10, Augmentation(2, True, 4), drop_last=False)
    whole = [batch for number in range(4) for batch in batches.epoch(7, "outer", 5, number=number)]
    for (x, y), (x_same, y_same) in zip(whole[start:], batches.repeated(7, "outer", 5, start), strict=False):
        assert torch.equal(x, x_same) and torch.equal(y, y_same)
    passes = [torch.cat([y for _, y in whole[first : first + 3]]).tolist() for first in (0, 3, 6)]
    assert all(sorted(one) == list(range(25)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3


@pytest.mark.parametrize(("images", "processes", "steps"), [(20, 1, 2), (21, 1, 2), (22, 1, 3), (23, 2, 2), (24, 2, 3)])
def test_a_last_batch_has_at_least_two_images_per_process(images: int, processes: int, steps: int) -> None:
    """BatchNorm cannot normalise one image whose maps have one pixel; DARTS stops there with an error."""
    shares = [Batches(some_images(images), 10, drop_last=False, share=(i, processes)) for i in range(processes)]
    assert [len(list(share.epoch(0, "train", 0))) for share in shares] == [len(share) for share in shares]
    assert {len(share) for share in shares} == {steps}


def test_a_last_short_batch_is_kept_on_request_and_by_in_order() -> None:
    images = some_images(23)
    assert [len(y) for _, y in Batches(images, 10).epoch(0, "train", 0)] == [10, 10]
    kept = Batches(images, 10, drop_last=False)
    assert [len(y) for _, y in kept.epoch(0, "train", 0)] == [10, 10, 3] and len(kept) == 3
    assert torch.cat([y for _, y in in_order(images, 10)]).tolist() == list(range(23))
    assert [len(y) for _, y in in_order(images, 1000)] == [23]


def test_impossible_batches_are_refused_by_name() -> None:
    images = some_images(20)
    with pytest.raises(ParameterError, match="batch_size is 21 and has to be from 1 to 20, the number of images"):
        Batches(images, 21)
    with pytest.raises(ParameterError, match="batch_size is 0"):
        Batches(images, 0)
    with pytest.raises(ParameterError, match="batch_size is 0"):
        next(in_order(images, 0))
    with pytest.raises(ParameterError, match="crop_padding is -1 and has to be 0 or more"):
        Augmentation(crop_padding=-1)
    with pytest.raises(ParameterError, match="start is 3 and has to be from 0 to 2"):
        next(Batches(images, 10).epoch(0, "train", 0, start=3))
