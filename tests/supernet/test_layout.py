"""Packing named tensors into one flat vector and unpacking them; agreement of two vectors."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hdarts.supernet.layout import Layout, agreement

LAYOUT = Layout.of([("z", (2, 3)), ("b", ()), ("empty", (0, 4)), ("c", (4,))])

SHAPES = st.lists(st.lists(st.integers(0, 4), max_size=4).map(tuple), min_size=1, max_size=6)


@given(shapes=SHAPES)
@settings(max_examples=100, deadline=None)
def test_pack_and_unpack_are_inverse(shapes):
    layout = Layout.of((f"t{i}", shape) for i, shape in enumerate(shapes))
    tensors = {name: torch.randn(shape) for name, shape in zip(layout.names, layout.shapes, strict=True)}
    vector = layout.pack(tensors)
    assert vector.shape == (layout.total,) == (sum(layout.sizes),)
    back = layout.unpack(vector)
    assert list(back) == list(tensors)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert torch.equal(layout.pack(back), vector)


def test_tensors_are_concatenated_in_the_order_of_the_layout():
    named = LAYOUT.unpack(torch.arange(11.0))
    assert named["z"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert named["b"].item() == 6
    assert named["c"].tolist() == [7, 8, 9, 10]
    shuffled = dict(sorted(named.items(), reverse=True))
    assert torch.equal(LAYOUT.pack(shuffled), torch.arange(11.0))


def test_unpacked_tensors_are_views():
    vector = torch.zeros(11)
    LAYOUT.unpack(vector)["c"][1] = 5.0
    assert vector[8] == 5.0


def test_gradients_pass_through_pack_and_unpack():
    vector = torch.arange(11.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: LAYOUT.pack({n: t.square() for n, t in LAYOUT.unpack(v).items()}), vector)


@pytest.mark.parametrize("shape", [(10,), (12,), (11, 1), ()])
def test_a_vector_of_another_length_is_refused(shape):
    with pytest.raises(ValueError, match=r"does not fit the layout: \(11,\)"):
        LAYOUT.unpack(torch.zeros(shape))


def test_errors_name_the_wrong_names_and_shapes():
    right = LAYOUT.unpack(torch.zeros(11))
    with pytest.raises(ValueError, match="names differ from the layout's, first at c"):
        LAYOUT.pack({name: tensor for name, tensor in right.items() if name != "c"})
    with pytest.raises(ValueError, match="first at other"):
        LAYOUT.pack({**right, "other": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\), the layout says \(2, 3\)"):
        LAYOUT.pack({**right, "z": torch.zeros(3, 2)})


def test_agreement_is_cosine_and_relative_error():
    result = agreement(torch.tensor([3.0, 4.0]), torch.tensor([4.0, 3.0]))
    assert result["cosine"] == pytest.approx(24 / 25) and result["relative_error"] == pytest.approx(math.sqrt(2) / 5)
    zero = agreement(torch.zeros(2), torch.ones(2))
    assert math.isnan(zero["cosine"]) and zero["relative_error"] == 1
    assert math.isnan(agreement(torch.ones(2), torch.zeros(2))["relative_error"])
