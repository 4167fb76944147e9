"""The verdicts on the thesis's equations 2 to 22, where numbers can decide them."""

import importlib
import math

import pytest
import torch
from helpers.hypergradient_problems import draw, near, setting
from torch import Tensor
from torch.func import grad, jacrev

from hdarts import hypergradient as methods
from hdarts.bilevel import Centred, Reparametrised
from hdarts.hypernetwork import ByKind, Linear
from hdarts.space import DARTS, discretise, skip_count
from hdarts.supernet import Supernet
from hdarts.toys import MicroDARTS, Sine, retrained_loss
from hdarts.workbook.claims.thesis import EQUATIONS as ALL

EQUATIONS = {equation.equation: equation for equation in ALL}
TOY = MicroDARTS(1.0)
ALPHA, BEST, W = setting(TOY)
XI = 0.3


def inner(w: Tensor, alpha: Tensor) -> Tensor:
    return TOY.inner(w, alpha, None)


def outer(w: Tensor, alpha: Tensor) -> Tensor:
    return TOY.outer(w, alpha, None)


def numerical(loss, alpha: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a scalar function of alpha."""
    flat = torch.eye(alpha.numel(), dtype=alpha.dtype).view(-1, *alpha.shape) * step
    return torch.stack([(loss(alpha + e) - loss(alpha - e)) / (2 * step) for e in flat]).view_as(alpha)


def cross(w: Tensor, alpha: Tensor, v: Tensor) -> Tensor:
    """C^T v, C = d2 inner / dw dalpha."""
    return grad(lambda a: grad(inner)(w, a) @ v)(alpha)


def test_equations_two_to_twenty_two_have_a_verdict_and_a_place_in_the_code():
    assert list(EQUATIONS) == list(range(2, 23))
    for equation in EQUATIONS.values():
        assert equation.verdict == "right" or equation.why
        module, name = equation.code.split(".")
        assert hasattr(importlib.import_module(f"hdarts.{module}"), name)


def test_equations_are_on_their_lines(thesis_lines: list[str]):
    for number, equation in EQUATIONS.items():
        assert rf"\quad ({number})" in thesis_lines[equation.line]


def test_7_and_8_are_the_derivative_of_the_retrained_loss():
    v, h = grad(outer)(BEST, ALPHA), jacrev(grad(inner))(BEST, ALPHA)
    response = -cross(BEST, ALPHA, torch.linalg.solve(h, v))
    total = grad(outer, argnums=1)(BEST, ALPHA) + response
    near(total, numerical(lambda a: retrained_loss(TOY, a), ALPHA), 1e-7)
    near(methods.exact(TOY, BEST, ALPHA, None, None).total, total)
    assert EQUATIONS[7].verdict == EQUATIONS[8].verdict == "right"


def steps(w: Tensor, *alphas: Tensor) -> Tensor:
    """w after one step of gradient descent for each alpha."""
    for alpha in alphas:
        w = w - XI * grad(inner)(w, alpha)
    return w


def test_9_sums_one_term_per_step_and_10_keeps_the_wrong_one():
    last = steps(W, ALPHA, ALPHA, ALPHA)
    through = [jacrev(lambda *a: outer(steps(W, *a), ALPHA), argnums=t)(ALPHA, ALPHA, ALPHA) for t in range(3)]
    direct = grad(outer, argnums=1)(last, ALPHA)
    near(direct + sum(through), numerical(lambda a: outer(steps(W, a, a, a), a), ALPHA), 1e-7)
    near(methods.unrolled(TOY, W, ALPHA, [None] * 3, None, XI).response, through[0] + through[1] + through[2])
    one = methods.unrolled(TOY, W, ALPHA, [None] * 3, None, XI, truncate=1)
    near(one.response, through[2])  # K = 1 is the last step
    assert float((one.response - through[0]).norm() / one.response.norm()) > 0.1  # (10) has the first
    assert float(one.direct.norm()) > 0.1 * float(one.response.norm())  # which (11) leaves out
    assert EQUATIONS[10].verdict == EQUATIONS[11].verdict == "wrong"


def test_16_is_the_derivative_of_15():
    after = steps(W, ALPHA)
    sixteen = grad(outer, argnums=1)(after, ALPHA) - XI * cross(W, ALPHA, grad(outer)(after, ALPHA))
    near(sixteen, numerical(lambda a: outer(steps(W, a), a), ALPHA), 1e-7)
    near(methods.unrolled(TOY, W, ALPHA, [None], None, XI).total, sixteen)
    assert EQUATIONS[15].verdict == EQUATIONS[16].verdict == "right"


def test_17_divides_by_two_epsilon():
    v = grad(outer)(steps(W, ALPHA), ALPHA)
    epsilon = 0.01 / float(v.norm())
    plus, minus = (grad(inner, argnums=1)(W + sign * epsilon * v, ALPHA) for sign in (1, -1))
    product = cross(W, ALPHA, v)
    near((plus - minus) / (2 * epsilon), product)  # exact here: the loss is quadratic in w
    result = methods.finite_difference(TOY, W, ALPHA, None, None, XI).response
    near(result, -XI * product)
    assert float(((plus - minus) / 2 * epsilon).norm() / product.norm()) < 0.1  # the slip of several public codes
    assert EQUATIONS[17].verdict == "right"


@pytest.fixture(scope="module")
def supernet() -> tuple[Reparametrised, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """A supernet whose cell weights come from a linear hypernetwork, u = [phi | rest], alpha and a batch; float64."""
    net = Supernet(DARTS, channels=2, layers=3, classes=3, image_channels=1)
    h = ByKind([Linear(math.prod(DARTS.alpha_shape[1:]), n) for n in net.n_cell_w])
    n_rest = net.n_w - sum(net.n_cell_w)
    generator = torch.Generator().manual_seed(0)
    u = torch.cat([h.initial_phi(generator), net.initial_w(generator)[-n_rest:]]).double()
    batch = draw(4, 1, 8, 8, purpose="images"), torch.tensor([0, 1, 2, 0])

    class Problem:
        def inner(self, w: Tensor, alpha: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
            return torch.nn.functional.cross_entropy(net(batch[0], w, alpha), batch[1])

        outer = inner

    return Reparametrised(Problem(), h, n_rest), u, 0.1 * draw(*DARTS.alpha_shape, purpose="alpha"), batch


def test_22_leaves_out_a_direct_part_that_is_not_zero_by_13(supernet):
    problem, u, alpha, batch = supernet
    result = methods.hypernetwork(problem, u, alpha, batch)
    along = draw(*alpha.shape, purpose="direction")
    with torch.no_grad():
        ends = [float(problem.outer(u, alpha + sign * 1e-8 * along, batch)) for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / 2e-8  # so small a step that no ReLU switches
    assert float((result.total * along).sum()) == pytest.approx(slope, rel=1e-5)  # (21)
    assert float((result.response * along).sum()) != pytest.approx(slope, rel=0.01)  # (22)
    assert float(result.direct.norm()) > 0.01 * float(result.response.norm()) > 0
    assert (EQUATIONS[21].verdict, EQUATIONS[22].verdict) == ("right", "wrong")


def test_14_would_choose_zero_where_the_rule_keeps_two_edges_per_node():
    alpha = torch.zeros(DARTS.alpha_shape)
    alpha[..., DARTS.operations.index("none")] = 5.0
    alpha[..., DARTS.operations.index("skip_connect")] = 1.0
    result = discretise(alpha, DARTS)
    assert len(result.normal) == len(result.reduce) == 2 * 4
    assert skip_count(result) == 8
    assert EQUATIONS[14].verdict == "unclear"


def test_19_converged_at_one_alpha_has_the_value_but_not_the_slope():
    toy, alpha, h = Sine(0.3), torch.tensor([0.9], dtype=torch.float64), Linear(1, 1)
    problem, start = Reparametrised(toy, h), h.initial_phi(torch.Generator().manual_seed(1)).double()
    slopes = {}
    for name, composed in (("raw", problem), ("centred", Reparametrised(toy, Centred(h, alpha)))):
        phi = torch.zeros_like(start) if name == "centred" else start
        for _ in range(200):
            phi = phi - 0.3 * grad(lambda p, composed=composed: composed.inner(p, alpha, None))(phi)
        near(composed.weights(phi, alpha), toy.best_response(alpha))  # the value is right
        slopes[name] = float(jacrev(lambda a, composed=composed, phi=phi: composed.weights(phi, a))(alpha))
    truth = -math.cos(0.9)
    assert abs(slopes["raw"] - truth) > 0.1  # trained along alpha itself, whatever the slope is
    assert slopes["centred"] == 0.0  # without noise a centred one learns no slope
    assert EQUATIONS[19].verdict == "unclear"
