"""The candidate operations as data: the convolutions that each of them consists of.

Supernet and evaluation network are both built from these. A convolutional operation consists of blocks of ReLU,
convolutions and BatchNorm, in this order (thesis 4.8.1).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Convolution:
    """A convolution without bias; `half`: one of two whose outputs, half of the channels each, are concatenated."""

    kernel: int
    depthwise: bool = False
    stride: int = 1
    dilation: int = 1
    half: bool = False

    @property
    def padding(self) -> int:
        """Zero padding on each side that keeps the size of the map at stride 1."""
        return self.dilation * (self.kernel // 2)

    def shape(self, channels_in: int, channels_out: int) -> tuple[int, int, int, int]:
        """Shape of the weight: (out, in / groups, kernel, kernel)."""
        out = channels_out // 2 if self.half else channels_out
        return (out, 1 if self.depthwise else channels_in, self.kernel, self.kernel)


@dataclass(frozen=True)
class Block:
    """ReLU, convolutions, BatchNorm. Convolutions are applied in sequence, or concatenated if they are halves."""

    convolutions: tuple[Convolution, ...]


def _separable(kernel: int, stride: int, dilation: int = 1) -> Block:
    return Block((Convolution(kernel, depthwise=True, stride=stride, dilation=dilation), Convolution(1)))


def factorised_reduction() -> Block:
    """Return the identity at stride 2: 1x1 convolutions of the even and of the odd pixels, concatenated."""
    return Block((Convolution(1, stride=2, half=True), Convolution(1, stride=2, half=True)))


def blocks(operation: str, stride: int) -> tuple[Block, ...]:
    """Return the blocks of an operation at a stride; pooling, `none` and identity at stride 1 have none.

    Separable convolutions are applied twice, the first time with the stride. `nor_conv_<k>x<k>` of NAS-Bench-201 is a
    single convolution that is not depthwise.

    >>> [[convolution.shape(16, 16) for convolution in block.convolutions] for block in blocks("dil_conv_5x5", 1)]
    [[(16, 1, 5, 5), (16, 16, 1, 1)]]
    >>> len(blocks("sep_conv_3x3", 1)), len(blocks("skip_connect", 2)), len(blocks("max_pool_3x3", 2))
    (2, 1, 0)
    """
    if operation.startswith("nor_conv"):
        return (Block((Convolution(int(operation[-1]), stride=stride),)),)
    if operation.startswith("sep_conv"):
        kernel = int(operation[-1])
        return _separable(kernel, stride), _separable(kernel, 1)
    if operation.startswith("dil_conv"):
        return (_separable(int(operation[-1]), stride, dilation=2),)
    if operation == "skip_connect" and stride == 2:
        return (factorised_reduction(),)
    return ()


def drop_path(x: Tensor, probability: float, keep: Tensor) -> Tensor:
    """Return `x` `(N, C, H, W)`, 0 in samples where `keep` `(N,)` is False, divided by 1 - probability in the others.

    The expectation is unchanged (thesis 4.8.2; Larsson et al. 2017).
    """
    return x * (keep.to(x.dtype) / (1 - probability)).view(-1, 1, 1, 1)
