"""The candidate operations, once, as data: which convolutions each one is made of.

Both networks are built from the same table: the supernet, a pure function of one flat weight vector, and the
evaluation network, made of modules. Order of a convolutional operation: ReLU, convolution(s), BatchNorm (thesis 4.8.1).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Convolution:
    """One convolution without bias: `C` to `C` channels, or to `C / 2` where two halves are concatenated."""

    kernel: int
    depthwise: bool = False
    stride: int = 1
    dilation: int = 1
    half: bool = False

    @property
    def padding(self) -> int:
        """Zeros on each side that keep the size at stride 1."""
        return self.dilation * (self.kernel // 2)

    def shape(self, channels_in: int, channels_out: int) -> tuple[int, int, int, int]:
        """Shape of the weight: (out, in / groups, kernel, kernel)."""
        out = channels_out // 2 if self.half else channels_out
        return (out, 1 if self.depthwise else channels_in, self.kernel, self.kernel)


@dataclass(frozen=True)
class Block:
    """ReLU, then convolutions one after the other, then BatchNorm: the unit of every convolutional operation."""

    convolutions: tuple[Convolution, ...]


def _separable(kernel: int, stride: int, dilation: int = 1) -> Block:
    return Block((Convolution(kernel, depthwise=True, stride=stride, dilation=dilation), Convolution(1)))


def factorised_reduction() -> Block:
    """Identity at stride 2: two 1x1 convolutions, one on the even and one on the odd pixels, side by side."""
    return Block((Convolution(1, stride=2, half=True), Convolution(1, stride=2, half=True)))


def blocks(operation: str, stride: int) -> tuple[Block, ...]:
    """Return the blocks of an operation at a stride; pooling, `none` and identity at stride 1 have none.

    Separable convolutions are applied twice, the stride in the first of them. NAS-Bench-201's `nor_conv_<k>x<k>` is one
    convolution of all channels.

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
    """Return `x` `(N, C, H, W)` with whole samples set to 0 where `keep` `(N,)` is False, the rest scaled up.

    The expectation stays: kept samples are divided by `1 - probability` (thesis 4.8.2; Larsson et al. 2017).
    """
    return x * (keep.to(x.dtype) / (1 - probability)).view(-1, 1, 1, 1)
