"""The gradients that each step of a search asks the kernels for: those that it uses, and no others."""

from collections import Counter
from functools import partial
from typing import Any

import pytest
import torch
from helpers import small_runs

from hdarts.kernels import nasbench201_edges, pooling, separable
from hdarts.kernels.bindings import Kernel
from hdarts.search import batches, load_splits, make_supernet, steps
from hdarts.search.state import State
from hdarts.search.validation import accuracy
from hdarts.search.weights import Classification

MODULES = {"pooling": pooling, "separable": separable, "edges": nasbench201_edges}


class Step:
    """The phases of a search, and the inputs whose gradients each backward pass of a kernel was asked for."""

    def __init__(self, patch: pytest.MonkeyPatch, **changes: Any) -> None:
        params: Any = small_runs.params({**small_runs.SEARCH, "noise": 0.0, **changes})
        self.params, self.data = params, load_splits(params, torch.device("cpu"))
        self.problem = Classification(make_supernet(params, self.data))
        self.state = State.fresh(params, self.problem.supernet, None, torch.device("cpu"))
        self.state.rate.fill_(0.1)
        direct = params.model_copy(update={"part": "direct"})  # where nothing is logged
        self.phases = steps.phases(direct, self.problem, self.state)
        self.batch = next(iter(batches(params, self.data)[0].epoch(0, "test", 0)))
        self.asked: dict[str, list[tuple[bool, ...]]] = {}
        for name, module in MODULES.items():
            patch.setattr(module, "vjp", partial(self.record, name, module.vjp))

    def record(self, name: str, vjp: Any, by_kernel: Any, in_pytorch: Any, inputs: Any, needed: Any, g: Any) -> Any:
        self.asked.setdefault(name, []).append(needed)
        return vjp(by_kernel, in_pytorch, inputs, needed, g)

    @property
    def kernels(self) -> dict[str, int]:
        return {name: len(calls) for name, calls in self.asked.items()}


FIRST_ORDER = {"darts": {"separable": 12, "pooling": 12}, "nasbench201": {"edges": 9}}


@pytest.mark.parametrize("space", FIRST_ORDER)
@pytest.mark.parametrize("method", ["darts-first", "hypernetwork", "neumann", "conjugate-gradient", "nystrom"])
def test_a_direct_step_asks_for_no_gradient_in_the_weights(
    space: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing of the first cell's inputs, which do not depend on alpha."""
    step = Step(monkeypatch, space=space, method=method, layers=3 if space == "darts" else 1)
    calls, call = Counter[tuple[str, bool]](), Kernel.call
    # the last but one argument of the functions `backward`: where to write the gradients in the sources
    monkeypatch.setattr(
        Kernel, "call", lambda self, name, *rest: (calls.update([(name, rest[-2] is None)]), call(self, name, *rest))
    )
    found = step.phases.unlogged(step.batch, step.batch)
    if space == "darts":  # pooling and convolutions; nothing inside those of the first cell's inputs
        assert calls["backward", False] == 22 and calls["backward", True] == 2
    asked = step.asked
    assert step.kernels == FIRST_ORDER[space] and found.total.any() and not found.response.any()
    assert all(needed[0] for name in ("pooling", "edges") for needed in asked.get(name, []))  # the mixture weights
    assert not any(any(needed[2:]) for needed in asked.get("edges", []))  # convolutions
    for needed in asked.get("separable", []):
        blocks = needed[len(needed) % 4 :]  # after the sources, 1 or 2
        assert not any(need for i, need in enumerate(blocks) if i % 4 < 2) and any(blocks[2::4])
    first = {name: calls[-1] for name, calls in asked.items()}  # the last to be differentiated is the first computed
    assert not any(first.get("pooling", (0,))[1:]) and not any(first.get("edges", (0,))[1:])
    assert not any(first.get("separable", (0, 0))[:2])


@pytest.mark.parametrize("space", FIRST_ORDER)
def test_a_step_of_the_weights_asks_for_no_gradient_in_alpha(space: str, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(monkeypatch, space=space, method="darts-first", layers=3 if space == "darts" else 1)
    step.phases.weight_step(step.batch, step.state.alpha, torch.zeros_like(step.state.alpha))
    assert step.kernels == FIRST_ORDER[space]
    assert not any(needed[0] for name in ("pooling", "edges") for needed in step.asked.get(name, []))
    for needed in step.asked.get("separable", []):
        assert not any(needed[len(needed) % 4 :][2::4])


@pytest.mark.parametrize(
    ("method", "gradients"), [("darts-second", 2), ("unrolled", 3), ("darts-first", 1), ("hypernetwork", 1)]
)
def test_the_direct_part_alone_takes_fewer_gradients(
    method: str, gradients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Step(monkeypatch, space="nasbench201", method=method, layers=1, steps=2)
    alone = step.phases.unlogged(step.batch, step.batch)
    assert step.kernels == {"edges": 9 * gradients}
    torch.testing.assert_close(alone.direct, step.phases.hypergradient(step.batch, step.batch).direct, rtol=0, atol=0)


def test_measuring_the_accuracy_builds_no_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    step, graphs = Step(monkeypatch, method="darts-first"), []
    original = Classification.outcome

    def outcome(self, w, alpha, batch):
        loss, correct = original(self, w.requires_grad_(), alpha, batch)
        graphs.append(loss.requires_grad)
        return loss, correct

    monkeypatch.setattr(Classification, "outcome", outcome)
    w = step.state.weights.value(step.state.alpha)
    accuracy(step.problem, w, step.state.alpha, step.data.validation, 16)
    step.phases.loss(step.batch, step.state.alpha, step.state.alpha)
    assert graphs and not any(graphs)
