"""Random numbers are a function of seed and purpose, never of what ran before."""

import pytest
import torch

from hdarts.runs.randomness import generator


def draw(*words: str | int) -> torch.Tensor:
    return torch.randn(8, generator=generator(*words))  # type: ignore[arg-type]


def test_the_same_seed_and_purpose_always_give_the_same_numbers():
    first = draw(2, "alpha", 3)
    torch.manual_seed(5)
    torch.randn(100)
    draw(2, "alpha", 4)
    assert torch.equal(draw(2, "alpha", 3), first)


def test_the_global_random_state_is_unchanged():
    before = torch.random.get_rng_state()
    draw(2, "alpha")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "purposes",
    [
        [(2,), (3,), (-2,), (2**70,)],
        [(2, "alpha"), (2, "w"), (2, ""), (2, "alpha", 0), (2, "alpha", 1), (2, "alpha", 0, 1), (2, 0, "alpha")],
        [(2, "alpha", 0, 1), (2, "alpha", "0/1"), (2, "alpha/0", 1), (2, "alpha/0/1")],
    ],
)
def test_different_seeds_and_purposes_give_different_numbers(purposes):
    assert len({tuple(draw(*words).tolist()) for words in purposes}) == len(purposes)


def test_neighbouring_seeds_and_steps_are_unrelated():
    # first numbers of a thousand neighbouring generators: mean, deviation and correlation of independent draws
    first = torch.cat(
        [torch.randn(1, generator=generator(seed, "noise", step)) for seed in range(10) for step in range(100)]
    )
    assert abs(float(first.mean())) < 4 / 1000**0.5
    assert abs(float(first.std()) - 1) < 4 / 2000**0.5
    correlation = torch.corrcoef(torch.stack([first[:-1], first[1:]]))[0, 1]
    assert abs(float(correlation)) < 4 / 1000**0.5
