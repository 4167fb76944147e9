"""docs/extending.md is true: its blocks run one after the other, and what they add computes the right result."""

import json
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from helpers import ROOT

from hdarts.errors import ParameterError
from hdarts.network import EvaluationNetwork
from hdarts.runs.provenance import read_starts
from hdarts.runs.randomness import generator
from hdarts.space import DARTS, NASBENCH201, Genotype, discretise, one_hot_alpha
from hdarts.supernet import Supernet
from hdarts.supernet.custom import CustomOperation
from hdarts.train import read_genotype
from hdarts.workbook.analysis.selection import candidate
from hdarts.workbook.init import start
from hdarts.workbook.study import plan_study

PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
IDEAS = ["search space", "operation", "hypernetwork", "hypergradient", "study"]
TITLES = ["Your images", *(f"A custom {idea}" for idea in [*IDEAS[:-1], "value of a part", IDEAS[-1]])]


def test_each_idea_has_its_block_of_less_than_thirty_lines():
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == TITLES
    assert [kind for kind, _ in BLOCKS] == ["python"] * 8 + ["yaml"]
    assert all(len(text.splitlines()) < 30 for _, text in BLOCKS)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workbook in which the Python blocks of the page ran one after the other, and the names they defined."""
    folder = tmp_path_factory.mktemp("custom") / "mine"
    start(folder)
    names: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HDARTS_RUNS", raising=False)
        patch.chdir(folder)
        for kind, text in BLOCKS:
            if kind == "python":
                exec(compile(text, "docs/extending.md", "exec"), names)
        yield folder, names


def test_every_block_ends_with_a_finished_run(place):
    folder, _ = place
    done = {path.parent.name for path in (folder / "runs" / "mine").glob("*/result.json")}
    searches = {"images", "parquet", "space", "operation", "hypernetwork", "hypergradient", "parts"}
    assert done == searches | {"space-tested", "gated"}
    for name in searches:
        table = (folder / "runs/mine" / name / "alpha.csv").read_text().splitlines()
        assert len(table) > 10


def test_custom_images_are_three_classes_of_the_folder(place):
    folder, _ = place
    data = read_starts(folder / "runs/mine/images")[-1]["data"]
    assert (data["name"], data["classes"], data["shape"]) == ("shapes", ["one", "two", "zero"], [1, 8, 8])
    data = read_starts(folder / "runs/mine/parquet")[-1]["data"]
    assert data["name"] == "parquet" and data["test"] == 15


def test_cell_of_a_custom_space_is_read_with_its_space(place):
    _, names = place
    cell = read_genotype("mine/space")
    assert cell.space == names["small"] and len(cell.normal) == 4
    assert Genotype.from_json(cell.to_json()) == cell
    assert candidate("mine/space").genotype == cell
    again = discretise(one_hot_alpha(cell), cell.space)
    assert [sorted(again.normal), sorted(again.reduce)] == [sorted(cell.normal), sorted(cell.reduce)]


def test_custom_hypernetwork_and_hypergradient_were_used(place):
    folder, names = place
    result = json.loads((folder / "runs/mine/hypernetwork/result.json").read_text())
    outside = names["supernet"].n_w - sum(names["supernet"].n_cell_w)
    assert result["trained_weights"] == names["both"].n_phi + outside
    assert (names["run"].table("hypergradients")["response_normal"] > 0).all(), "the method of the parameters has none"


def test_study_of_the_page_is_planned(place):
    folder, _ = place
    (text,) = [text for kind, text in BLOCKS if kind == "yaml"]
    path = folder / "params" / "studies" / "rates.yaml"
    path.write_text(text)
    plan = plan_study(path)
    stages = [run.stage for run in plan.runs]
    assert [stages.count(stage) for stage in plan.study.stages] == [4, 2, 4, 1]
    assert plan.root == folder


class Wide:
    """A 3x3 convolution of all channels, which hdarts's DARTS cells do not have."""

    def shapes(self, channels, stride):
        return [(channels, channels, 3, 3)]

    def __call__(self, x, weights, stride):
        return F.conv2d(x, weights[0], stride=stride, padding=1)


class Same:
    """relu, depthwise, pointwise: what `dil_conv_3x3` is."""

    def shapes(self, channels, stride):
        return [(channels, 1, 3, 3), (channels, channels, 1, 1)]

    def __call__(self, x, weights, stride):
        x = F.conv2d(F.relu(x), weights[0], None, stride, 2, 2, x.shape[1])
        return F.conv2d(x, weights[1])


COMMON = ("none", "skip_connect", "sep_conv_3x3")


def test_custom_copy_of_a_built_in_operation_computes_the_same():
    theirs = replace(DARTS, name="theirs", operations=(*COMMON, "dil_conv_3x3"))
    ours = replace(DARTS, name="ours", operations=(*COMMON, "x"))
    one, other = Supernet(theirs, 4, 3, 5), Supernet(ours, 4, 3, 5, custom={"x": Same()})
    w = one.initial_w(generator(0, "w")).double()
    renamed = {name.replace("dil_conv_3x3", "x"): value for name, value in one.unpack(w).items()}
    images = torch.randn(6, 3, 8, 8, generator=generator(0, "images")).double()
    alpha = torch.randn(theirs.alpha_shape, generator=generator(0, "alpha")).double()
    v = other.pack(renamed)
    for a in (alpha, one_hot_alpha(discretise(alpha, theirs)).double()):
        torch.testing.assert_close(other(images, v, a), one(images, w, a), rtol=1e-10, atol=1e-10)

    def slope(net: Supernet, u: torch.Tensor) -> torch.Tensor:
        a = alpha.clone().requires_grad_()
        return torch.autograd.grad(net(images, u, a).square().sum(), a)[0]

    left, right = slope(one, w), slope(other, v)
    torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-8)


def test_a_space_without_pooling_and_identity_is_that_with_them_at_weight_zero():
    bare = replace(DARTS, name="bare", operations=("none", "sep_conv_3x3", "dil_conv_5x5"))
    full, small = Supernet(DARTS, 2, 3, 4), Supernet(bare, 2, 3, 4)
    w = full.unpack(full.initial_w(generator(0, "w")).double())
    images = torch.randn(5, 3, 8, 8, generator=generator(0, "images")).double()
    few = torch.rand(bare.alpha_shape, generator=generator(0, "weights")).double()
    all_of = torch.zeros(DARTS.alpha_shape).double()
    for column, name in enumerate(bare.operations):
        all_of[..., DARTS.operations.index(name)] = few[..., column]
    expected = full.mixture(images, full.pack(w), all_of)
    kept = {name: value for name, value in w.items() if name in small.layout.names}
    torch.testing.assert_close(small.mixture(images, small.pack(kept), few), expected, rtol=1e-10, atol=1e-10)


def test_custom_operation_is_a_module_in_the_evaluation_network():
    space = replace(DARTS, name="wide", operations=(*COMMON, "wide"))
    alpha = torch.zeros(space.alpha_shape)
    alpha[..., 3] = 1.0
    cell = discretise(alpha, space)
    network = EvaluationNetwork(cell, 2, 3, 4, auxiliary=False, custom={"wide": Wide()})
    modules = [module for module in network.modules() if isinstance(module, CustomOperation)]
    assert len(modules) == 3 * 8
    assert sum(module.stride == 2 for module in modules) == 2 * 8  # of equal edges the first ones stay: from the inputs
    network(torch.randn(3, 3, 8, 8))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("change", "custom", "message"),
    [
        ({"name": "darts", "nodes": 2, "outputs": 2}, {}, "the name is taken"),
        ({"inputs": 1}, {}, "inputs has to be 2"),
        ({"nodes": 3}, {}, "outputs has to be 3"),
        ({"nodes": 0, "outputs": 0}, {}, "nodes has to be from 1 to 32"),
        ({"operations": ("sep_conv_3x3", "none")}, {}, "operations have to be `none`"),
        ({"operations": ("none", "skip_connect")}, {}, "needs a separable convolution"),
        ({"operations": (*COMMON, "sep_conv_7x7")}, {}, "'sep_conv_7x7' is neither built in nor passed"),
        ({"operations": COMMON}, {"skip_connect": Wide()}, "is built in"),
        ({"operations": COMMON}, {"wide": Wide()}, "the space does not have it"),
    ],
)
def test_a_space_that_makes_no_supernet_is_refused(change, custom, message):
    with pytest.raises(ParameterError, match=re.escape(message)):
        Supernet(replace(DARTS, **({"name": "mine"} | change)), 2, 3, 4, custom=custom)


def test_custom_operations_need_cells_like_those_of_darts():
    with pytest.raises(ParameterError, match="takes no custom operations"):
        Supernet(NASBENCH201, 2, 1, 4, custom={"wide": Wide()})


IMPOSSIBLE = [{"nodes": 10**9}, {"kinds": ["cell"]}, {"operations": []}, {"name": 3}, {"more": 1}]


@pytest.mark.parametrize("change", IMPOSSIBLE)
def test_a_genotype_of_an_impossible_space_is_a_parameter_error(change):
    alpha = torch.zeros(DARTS.alpha_shape)
    content = json.loads(discretise(alpha, replace(DARTS, name="mine")).to_json())
    content["space"] |= change
    with pytest.raises(ParameterError) as error:
        Genotype.from_json(json.dumps(content))
    assert "\n" not in str(error.value)
