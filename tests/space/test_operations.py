"""The candidate operations, as defined in section 4.8.1 of the thesis."""

import pytest
import torch
from torch import nn

from hdarts.runs.randomness import generator
from hdarts.space import DARTS
from hdarts.space.operations import blocks, drop_path


def table(operation: str, stride: int) -> list[list[tuple]]:
    """(kernel, depthwise, stride, dilation) of each convolution of each ReLU-convolutions-BatchNorm block."""
    return [
        [(c.kernel, c.depthwise, c.stride, c.dilation) for c in block.convolutions]
        for block in blocks(operation, stride)
    ]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_separable_convolution_is_applied_twice_with_the_stride_first(kernel: int, stride: int):
    assert table(f"sep_conv_{kernel}x{kernel}", stride) == [
        [(kernel, True, stride, 1), (1, False, 1, 1)],
        [(kernel, True, 1, 1), (1, False, 1, 1)],
    ]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_dilated_convolution_is_applied_once(kernel: int, stride: int):
    assert table(f"dil_conv_{kernel}x{kernel}", stride) == [[(kernel, True, stride, 2), (1, False, 1, 1)]]


def test_identity_at_stride_two_is_a_factorised_reduction():
    assert table("skip_connect", 1) == []
    assert table("skip_connect", 2) == [[(1, False, 2, 1), (1, False, 2, 1)]]
    halves = blocks("skip_connect", 2)[0].convolutions
    assert [half.shape(32, 16) for half in halves] == [(8, 32, 1, 1)] * 2


@pytest.mark.parametrize("operation", ["none", "max_pool_3x3", "avg_pool_3x3"])
def test_pooling_and_none_have_no_convolutions(operation: str):
    assert blocks(operation, 1) == blocks(operation, 2) == ()


def test_an_edge_has_twelve_convolutions_and_fourteen_with_the_factorised_reduction():
    counts = [sum(len(block) for name in DARTS.operations for block in table(name, stride)) for stride in (1, 2)]
    assert counts == [12, 14]


@pytest.mark.parametrize("operation", DARTS.operations)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_keep_channels_and_size_up_to_the_stride(operation: str, stride: int):
    x = torch.zeros(1, 4, 9, 7)
    for block in blocks(operation, stride):
        outputs, size = [], x
        for c in block.convolutions:
            out, per_group, kernel, _ = c.shape(4, 4)
            module = nn.Conv2d(4, out, kernel, c.stride, c.padding, c.dilation, 4 // per_group, bias=False)
            assert module.weight.shape == c.shape(4, 4)
            size = module(x if c.half else size)
            outputs.append(size)
        x = torch.cat(outputs, 1) if block.convolutions[0].half else size
    if blocks(operation, stride):
        assert x.shape == ((1, 4, 9, 7) if stride == 1 else (1, 4, 5, 4))


def test_drop_path_zeroes_whole_samples_and_scales_up_the_others():
    x = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    out = drop_path(x, 0.2, torch.tensor([True, False, True]))
    torch.testing.assert_close(out[[0, 2]], x[[0, 2]] / 0.8)
    assert (out[1] == 0).all()
    assert torch.equal(drop_path(x, 0.0, torch.ones(3, dtype=torch.bool)), x)


@pytest.mark.parametrize("probability", [0.05, 0.2, 0.6])
def test_drop_path_keeps_the_expectation(probability: float):
    n = 20_000
    keep = torch.rand(n, generator=generator(0, "drop path")) >= probability
    mean = drop_path(torch.ones(n, 1, 1, 1, dtype=torch.float64), probability, keep).mean()
    assert abs(float(mean) - 1) < 4 * (probability / (1 - probability) / n) ** 0.5
