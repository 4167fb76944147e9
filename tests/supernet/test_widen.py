"""Weights of a supernet whose operations get more channels."""

import torch

from hdarts.runs.randomness import generator
from hdarts.space import DARTS
from hdarts.supernet import Supernet
from hdarts.supernet.widen import Widening


def test_gained_channels_are_copies_which_the_next_convolution_reads_as_such():
    narrow, wide = (Supernet(DARTS, 12, 3, 3, partial_channels=groups) for groups in (6, 3))
    vector = torch.arange(1.0, narrow.n_w + 1)  # every weight is another
    widen = Widening(narrow, wide, generator(0))
    old, new = narrow.unpack(vector), wide.unpack(widen(vector))
    assert torch.equal(widen(2 * vector), 2 * widen(vector)), "the velocity is mapped in the same way"
    changed = 0
    for name, value in new.items():
        was = old[name]
        assert torch.equal(value[tuple(slice(n) for n in was.shape)], was)
        if value.shape == was.shape:
            assert ".dil_conv" not in name and ".sep_conv" not in name
            continue
        changed += 1
        if name.endswith((".dil_conv_3x3.0", ".sep_conv_5x5.2")):  # depthwise; the pointwise one comes next
            stem, number = name.rsplit(".", 1)
            after, before = new[f"{stem}.{int(number) + 1}"], old[f"{stem}.{int(number) + 1}"]
            for channel in range(len(was), len(value)):
                source = [i for i in range(len(was)) if torch.equal(was[i], value[channel])]
                assert len(source) == 1
                assert torch.equal(after[: len(before), channel], before[:, source[0]])
    assert changed > 100
