"""Parameters: whatever is unknown, missing or impossible is refused in one sentence, before any work."""

import json
import math
import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hdarts.errors import ParameterError
from hdarts.params import (
    MODELS,
    HypergradientParams,
    SearchParams,
    SelectParams,
    ToyBilevelParams,
    ToyHypernetworkParams,
    check,
    collect,
    identity,
    notebook_defaults,
    read_yaml,
    recorded,
)
from hdarts.params.parts import SearchParts

TOY: dict[str, Any] = {"run": "", "seed": 1, "sigmas": [0.05, 0.1], "steps": 3}

# two allowed values of each parameter of a search; those of its parts are in PARTS
TWO = yaml.safe_load("""{
    run: ["", mine/run], device: [cpu, "cuda:1"], threads: [1, 2], deterministic: [false, true],
    data: [digits, cifar10], data_folder: ["", images],
    limit: [0, 100], skip_damaged: [false, true], image_size: [0, 16],
    stream: [false, true], workers: [0, 2],
    crop_padding: [0, 4], flip: [false, true], cutout: [0, 16],
    checkpoint_epochs: [1, 2], checkpoint_minutes: [10.0, 5.0], keep_epochs: [[1, 2], []],
    keep_checkpoint: [false, true], tensorboard: [false, true],
    epochs: [2, 50], batch_size: [64, 48], learning_rate: [0.025, 0.05],
    learning_rate_min: [0.001, 0.0], momentum: [0.9, 0.0], weight_decay: [0.0003, 0.0], clip: [5.0, 1.0],
    precision: [float32, bfloat16], search_seed: [2, 20], validation_fraction: [0.5, 0.25], split_seed: [0, 1],
    space: [darts, darts], stem: [cifar, imagenet], channels: [16, 4], layers: [8, 5],
    method: [hypernetwork, darts-second], part: [total, response],
    alpha_learning_rate: [0.0006, 0.0009], alpha_beta1: [0.5, 0.9], alpha_beta2: [0.999, 0.99],
    alpha_weight_decay: [0.001, 0.0], alpha_scale: [0.001, 0.0], epsilon: [0.01, 0.1], steps: [2, 3], truncate: [1, 0],
    terms: [3, 1], iterations: [5, 1], damping: [0.0, 0.1], hypernetwork: [linear, mlp], activation: [sigmoid, tanh],
    hidden: [shared, per_convolution], hidden_size: [0, 8], rank: [4, 1], embedding: [32, 8],
    sequential: [false, false], rest: [learned, generated],
    centred: [false, true], noise: [0.1, 0.05], antithetic: [false, true],
    initialisation: [default, zero-response],
    global_epochs: [0, 1], global_scale: [1.0, 2.0], schedule_epochs: [0, 4], stop_when_skips: [0, 2],
    drop_last: [false, true], order: [alpha-first, weights-first], nesterov: [false, true], schedule: [epoch, step],
    discretise_epochs: [0, 1], eigenvalue_epochs: [0, 2], log_every: [10, 1],
    candidates: [0, 0], hypernetwork_input: [alpha, softmax], message_rounds: [2, 1],
    image_channels: [auto, 1], validation_part: [unused, outer], test_fraction: [0.0, 0.2],
    response_update: [noise, noise], response_rate: [0.1, 0.2], sync_batch_norm: [false, true]
}""")
SEARCH, OTHER = ({name: values[which] for name, values in TWO.items()} for which in (0, 1))


def refused(model, **values) -> str:
    with pytest.raises(ParameterError) as error:
        check(model, values)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_valid_values_are_kept_and_cannot_be_changed():
    params = check(SearchParams, SEARCH)
    assert {name: value for name, value in params.model_dump().items() if name in SEARCH} == SEARCH
    with pytest.raises(ValueError, match="frozen"):
        params.channels = 4  # type: ignore[misc]


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    assert "did you mean `learning_rate`?" in refused(SearchParams, **SEARCH, learnin_rate=0.1)
    assert "known are run, seed, sigmas, steps" in refused(ToyHypernetworkParams, **TOY, zzz=1)
    assert re.search(r"known are (\w+, ){3}others: the notebook has a table of", refused(SearchParams, **SEARCH, zzz=1))


@pytest.mark.parametrize("name", TOY)
def test_the_error_names_a_missing_parameter(name: str):
    assert f"`{name}` is missing" in refused(ToyHypernetworkParams, **{k: v for k, v in TOY.items() if k != name})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"channels": 0}, "`channels` = 0: input should be greater than or equal to 1"),
        ({"layers": 0}, "`layers` = 0: input should be greater than or equal to 1"),
        ({"space": "s1", "layers": 2}, "`layers` = 2 is less than the 3 cells that a network of space s1 needs"),
        ({"space": "s4", "parametrisation": "gumbel"}, "space: s4 draws the values of its operation noise"),
        ({"space": "s4", "max_skips": 2}, "max_skips: space s4 has no skip connections"),
        ({"layers": 2}, "`layers` = 2 is less than the 3 cells that a network of space darts needs"),
        ({"batch_size": 1}, "`batch_size` = 1: input should be greater than or equal to 2"),
        ({"epochs": True}, "`epochs` = True: input should be a valid integer"),
        ({"epochs": 2.0}, "`epochs` = 2.0: input should be a valid integer"),
        ({"epochs": 10**5000}, "`epochs` = <int>: input should be less than"),
        ({"flip": 1}, "`flip` = 1: input should be a valid boolean"),
        ({"keep_epochs": "[2]"}, r"`keep_epochs` = '\[2\]': .* papermill reads -y 'keep_epochs: \[2\]' as YAML"),
        ({"keep_epochs": "2"}, r"papermill reads -y 'keep_epochs: \[2\]' as YAML"),
        ({"flip": "true"}, "papermill reads -y 'flip: true' as YAML"),
        ({"learning_rate": "6e-4"}, "`learning_rate` = '6e-4': .* write numbers in YAML with a point, such as 6.0e-4"),
        ({"learning_rate": math.nan}, "`learning_rate` = nan: "),
        ({"learning_rate": math.inf}, "`learning_rate` = inf: "),
        ({"momentum": 1.0}, "`momentum` = 1.0: input should be less than 1"),
        ({"momentum": math.nan}, "`momentum` = nan: "),
        ({"validation_fraction": 0.0}, "`validation_fraction` = 0.0: "),
        ({"data": ""}, "`data` = '': "),
        ({"data_folder": "a\0b"}, "`data_folder` = .*: contains characters that cannot be printed"),
        ({"device": "gpu"}, "`device` = 'gpu': .*auto"),
        ({"method": "darts"}, "`method` = 'darts': .*'darts-first'"),
        ({"keep_epochs": [1, -1]}, "`keep_epochs.1` = -1: "),
        ({"keep_epochs": (1,)}, r"`keep_epochs` = \(1,\): input should be a valid list"),
        ({"steps": 2, "truncate": 3}, "truncate: 3 is more than steps: 2"),
        ({"centred": True, "noise": 0.0}, "centred: true learns nothing without noise"),
        ({"response_update": "tangent"}, "response_update: tangent needs method hypernetwork, linear or low-rank"),
        ({"response_update": "tangent", "centred": True}, "noise: response_update tangent has no noise in the weights"),
        ({"antithetic": True, "noise": 0.0}, "antithetic: true needs noise above 0"),
        ({"sequential": True}, "sequential: true needs method hypernetwork with hypernetwork: chunked"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov: true needs momentum above 0"),
        ({"stem": "resnet"}, "`stem` = 'resnet': .*'cifar' or 'imagenet'"),
        ({"stem": "imagenet", "channels": 5}, "channels: 5 is odd; stem: imagenet begins with half of them"),
    ],
)
def test_the_error_names_a_wrong_value_and_what_is_allowed(wrong: dict[str, Any], message: str):
    assert re.search(message, refused(SearchParams, **{**SEARCH, **wrong}))


def test_only_a_text_that_should_be_a_number_gets_the_hint_on_yaml():
    for value in (True, False, None, [1.0]):
        assert "YAML" not in refused(SearchParams, **{**SEARCH, "clip": value})


def test_a_long_value_is_cut_in_the_message():
    assert len(refused(SearchParams, **{**SEARCH, "method": "x" * 10_000})) < 300


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no picture of me")


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary()
    | st.sampled_from(["\ud800", "a\nb", complex(1, 1), int, range(3), 2**63]) | st.builds(Unprintable)
    | st.builds(lambda digits: 10**digits, st.just(5000))
)  # fmt: skip
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner), max_leaves=5
)


@given(name=st.sampled_from([*SEARCH, "zzz", "", "\ud800"]), value=ANYTHING)
@settings(max_examples=500, deadline=None)
def test_any_value_is_accepted_or_refused_by_a_parameter_error(name: str, value: Any):
    try:
        params = check(SearchParams, {**SEARCH, name: value})
    except ParameterError as error:
        assert "\n" not in str(error)
    else:
        text = yaml.safe_dump(params.model_dump())
        assert identity(check(SearchParams, yaml.safe_load(text))) == identity(params)
        assert params.slug().isprintable()


def test_identity_ignores_what_does_not_change_the_computation_and_nothing_else():
    ignored = {"run", "device", "threads", "deterministic"}
    ignored |= {"checkpoint_epochs", "checkpoint_minutes", "keep_epochs", "keep_checkpoint"}
    ignored |= {"tensorboard", "stream", "workers"}
    start = check(SearchParams, SEARCH)
    assert OTHER.keys() | SearchParts.model_fields.keys() == SearchParams.model_fields.keys()
    for name in OTHER.keys() - {"space", "candidates", "response_update", "sequential"}:  # which cannot change alone
        changed = check(SearchParams, {**SEARCH, name: OTHER[name]})
        assert (identity(changed) == identity(start)) == (name in ignored), name
    chunked, in_turn = (
        check(SearchParams, {**SEARCH, "hypernetwork": "chunked", "rest": "learned", "sequential": sequential})
        for sequential in (False, True)
    )
    assert identity(chunked) != identity(in_turn)


RISE = {"stop_when_eigenvalue_grows": 1.3, "eigenvalue_epochs": 2}
# another value of each part of a search, with what it needs
PARTS = yaml.safe_load("""
    - {parametrisation: edge-softmax}
    - {parametrisation: gumbel, temperature: {first: 1.0, last: 0.03}}
    - {auxiliary_skip: 1.0}
    - {partial_channels: 4}
    - {outer_term: multiply-adds, outer_weight: 1.0, outer_target: 3.0}
    - {alpha_step: exponentiated, parametrisation: simplex, noise: 0.0}
    - {alpha_step: sgd, alpha_epsilon: 1.0, alpha_clip: 5.0}
    - {warmup_epochs: 1, levels: one}
    - {neighbourhood: adversarial, perturbation: {first: 0.03, last: 0.3}, attack_steps: 3}
    - {stages: [{epochs: 1}, {epochs: 1, operations: 5}]}
    - {stop_when_stable: 10, stop_when_eigenvalue_grows: 1.3, eigenvalue_epochs: 2}
    - {decay_growth: 3.0, most_weight_decay: 0.0243, stop_when_eigenvalue_grows: 1.3, eigenvalue_epochs: 2}
    - {selection: perturbation, tuning_epochs: 2}
    - {selection: threshold, threshold: 0.5, max_skips: 2}
    - {fresh_batches: true, method: neumann}
    - {adjoint_step: 0.1, method: amortised-adjoint}
""")


def test_parts_that_are_those_of_darts_do_not_name_a_run_and_others_do():
    start = check(SearchParams, SEARCH)
    assert identity(check(SearchParams, start.model_dump())) == identity(start)
    for part in PARTS:
        for name in part.keys() & SearchParts.model_fields.keys():
            with_it = check(SearchParams, {**SEARCH, **part}).model_dump()
            assert identity(check(SearchParams, with_it)) != identity(start)
            assert SearchParams.identifying(with_it)[name] == with_it[name]
    needed = {"noise", "eigenvalue_epochs", "method"}  # by a part
    assert {name for part in PARTS for name in part} - needed == SearchParts.model_fields.keys()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"parametrisation": "simplex"},
            "alpha_step: exponentiated and parametrisation: simplex or edge-simplex need each other",
        ),
        (
            {"alpha_step": "exponentiated"},
            "alpha_step: exponentiated and parametrisation: simplex or edge-simplex need each other",
        ),
        (
            {"stages": [{"epochs": 1}, {"epochs": 1, "parametrisation": "simplex"}]},
            "alpha_step: exponentiated and parametrisation: simplex or edge-simplex need each other",
        ),
        ({"outer_weight": 1.0}, "outer_weight: needs an outer_term"),
        ({"perturbation": 0.1}, "perturbation: needs a neighbourhood"),
        ({"neighbourhood": "uniform"}, "neighbourhood: needs a perturbation above 0"),
        (
            {"neighbourhood": "uniform", "perturbation": 0.1, "parametrisation": "sigmoid"},
            "neighbourhood: needs parametrisation softmax or simplex",
        ),
        ({"partial_channels": 4, "parametrisation": "sigmoid"}, "partial_channels: .*sigmoid"),
        ({"stages": [{"epochs": 1}, {"epochs": 1, "partial_channels": 3}]}, "partial_channels: 3 does not divide"),
        (
            {"stages": [{"epochs": 1}, {"epochs": 1, "partial_channels": 2, "restart": False}]},
            "partial_channels: 1, then 2 needs restart: true",
        ),
        (
            {"method": "hypernetwork", "partial_channels": 2}
            | {"stages": [{"epochs": 1}, {"epochs": 1, "partial_channels": 1, "restart": False}]},
            "partial_channels: generated weights cannot be widened",
        ),
        ({"parametrisation": "edge-pairs"}, "parametrisation: edge-pairs needs a stage that prunes"),
        ({"temperature": 0.0}, "temperature: must be above 0"),
        ({"temperature": {"first": 1.0, "last": 0.0, "shape": "exponential"}}, "exponential needs first and last"),
        (
            {"space": "single-cell", "layers": 1, "selection": "perturbation"},
            "selection: perturbation is not for space",
        ),
        ({"stages": [{"epochs": 5}]}, "stages: they have 5 epochs, but epochs is 2"),
        ({"stages": [{"epochs": 2, "operations": 3}]}, "stages: before the first one there is nothing to prune"),
        ({"stages": [{"epochs": 1}, {"epochs": 1, "layers": 5, "restart": False}]}, "needs restart: true"),
        ({"warmup_epochs": 2}, "warmup_epochs: 2 leaves no epoch for alpha: epochs is 2"),
        ({"fresh_batches": True}, "fresh_batches: needs method neumann"),
        ({"method": "nystrom", "damping": 0.0}, "damping: must be above 0 for method nystrom"),
        ({"fresh_batches": True, "method": "neumann", "levels": "one"}, "fresh_batches: needs levels: two"),
        ({"stop_when_eigenvalue_grows": 1.3}, "stop_when_eigenvalue_grows: needs eigenvalue_epochs above 0"),
        ({"decay_growth": 3.0}, "decay_growth: needs stop_when_eigenvalue_grows"),
        ({**RISE, "decay_growth": 1.0}, "decay_growth: 1.0 needs to be above 1"),
        ({**RISE, "decay_growth": 3.0}, "most_weight_decay: 0 allows no growth; set at least"),
        ({"selection": "perturbation", "stages": [{"epochs": 2}]}, "selection: perturbation .* stages"),
        ({"selection": "perturbation", "partial_channels": 2}, "selection: perturbation .* partial_channels"),
        ({"selection": "perturbation", "parametrisation": "edge-softmax"}, "selection: .* parametrisation"),
        ({"selection": "perturbation", "stop_when_skips": 2}, "stop_when_skips: .* selection: perturbation"),
        (
            {"selection": "perturbation", "candidates": 1, "method": "shared-weights"},
            "selection: perturbation is not for candidates",
        ),
        ({"stop_when_stable": 3, "stages": [{"epochs": 2}]}, "stop_when_stable: is not for a search with stages"),
        ({"max_skips": -1}, "`max_skips` = -1"),
        (
            {"stages": [{"epochs": 2, "skip_dropout": 0.4}], "parametrisation": "gumbel"},
            "skip_dropout: needs a parametrisation without random draws",
        ),
        ({"partial_channels": 3}, "partial_channels: 3 does not divide channels: 16"),
        ({"outer_term": "beta-decay", "part": "response"}, "outer_term: .* part: response"),
        ({"parametrisation": "dirichlet"}, "noise: .* dirichlet"),
        ({"parametrisation": "sigmoid", "hypernetwork_input": "softmax"}, "hypernetwork_input: .* sigmoid"),
        ({"max_skips": 2, "selection": "perturbation"}, "max_skips: selection perturbation decides by accuracy"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused_by_one_sentence(wrong: dict[str, Any], message: str):
    assert re.search(message, refused(SearchParams, **{**SEARCH, **wrong}))


def test_not_identifying_lists_existing_parameters_only():
    fields = set().union(*(model.model_fields for model in MODELS.values()))
    for model in MODELS.values():
        assert model.not_identifying <= fields


def test_parameters_recorded_by_release_0_1_0_are_read_and_keep_their_identity():
    added = SearchParams.added_later.keys()
    old = {name: value for name, value in SEARCH.items() if name not in added} | {"rest": "own"}
    same = {**SEARCH, "stream": False, "workers": 2, "drop_last": True}
    assert recorded(SearchParams, old) == check(SearchParams, same)
    assert identity(recorded(SearchParams, old)) == "6f98c1a7"
    assert SearchParams.identifying(old) == SearchParams.identifying(same)


def test_identity_is_the_same_for_one_and_one_point_zero_and_differs_between_stages():
    whole, point = ({**TOY, "sigmas": [value]} for value in (1, 1.0))
    assert identity(check(ToyHypernetworkParams, whole)) == identity(check(ToyHypernetworkParams, point))
    assert len({model.stage for model in MODELS.values()}) == len(MODELS)


def test_slugs_have_method_and_seed():
    assert check(SearchParams, SEARCH).slug() == "linear-s2"
    assert check(SearchParams, {**SEARCH, "method": "darts-first"}).slug() == "darts-first-s2"


# --- parameters in a notebook ---------------------------------------------------------------------------------------


def test_collect_selects_the_parameters_of_a_namespace():
    namespace = {**TOY, "json": json, "check": check, "In": ["steps = 4"], "Out": {1: 2}, "_": 3, "__name__": "x"}
    assert collect(ToyHypernetworkParams, namespace).model_dump() == TOY


@pytest.mark.parametrize("value", [1, 1.0, "a", None, True, [1], (1,), {1}, {"a": 1}, b"a", 1j])
def test_collect_refuses_every_literal_under_an_unknown_name(value: Any):
    with pytest.raises(ParameterError, match=r"unknown parameter `step` .* did you mean `steps`"):
        collect(ToyHypernetworkParams, {**TOY, "step": value})


def test_collect_names_a_parameter_of_a_wrong_type_instead_of_calling_it_missing():
    with pytest.raises(ParameterError, match=r"`sigmas` = .*should be a valid list"):
        collect(ToyHypernetworkParams, {**TOY, "sigmas": range(3)})


def test_a_cell_that_collects_can_be_run_again_after_later_cells():
    params = collect(ToyHypernetworkParams, TOY)
    later = {**TOY, "steps": 4, "params": params, "rows": [1, 2], "best": 0.5}
    assert collect(ToyHypernetworkParams, later).steps == 4


def notebook(path, *cells: tuple[list[str], str]):
    content = [{"cell_type": "code", "metadata": {"tags": tags}, "source": [source]} for tags, source in cells]
    path.write_text(json.dumps({"cells": content}))
    return path


def test_defaults_are_the_literals_of_the_parameters_cell(tmp_path):
    source = 'run = ""  # where\nseed = 1\nrate = -6e-4\nkeep = [1, 2]\nflip = True\nnothing = None'
    path = notebook(tmp_path / "n.ipynb", ([], "x = 9"), (["parameters"], source), (["parameters"], "seed = 8"))
    assert notebook_defaults(path) == {
        "run": "",
        "seed": 1,
        "rate": -6e-4,
        "keep": [1, 2],
        "flip": True,
        "nothing": None,
    }


@pytest.mark.parametrize(
    "line",
    ["b = a", "b = f(2)", "b: int = 2", "b, c = 1, 2", "b.c = 1", "b += 1", "import os", "%matplotlib inline",
     "b = {[]: 1}", "b = (", "b = c = 1", "b = f'{a}'", "b = " + "[" * 300, "b = __import__('os')"],
)  # fmt: skip
def test_a_parameters_cell_has_literals_only(tmp_path, line: str):
    path = notebook(tmp_path / "n.ipynb", (["parameters"], f"a = 1\n{line}"))
    with pytest.raises(ParameterError, match="line 2 of the parameters cell is not `name = literal`"):
        notebook_defaults(path)


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="has no cell tagged `parameters`"):
        notebook_defaults(notebook(tmp_path / "n.ipynb", ([], "a = 1")))


@pytest.mark.parametrize(
    "content",
    [b"", b"a = 1", b"[]", b"{}", b'{"cells": 3}', b'{"cells": [3]}', b"\xff\xfe", b"[" * 100_000,
     b'{"cells": [{"metadata": {"tags": ["parameters"]}}]}', b'{"cells": [{"metadata": 3}]}',
     b'{"cells": [{"metadata": {"tags": ["parameters"]}, "source": [1]}]}'],
)  # fmt: skip
def test_a_file_that_is_no_notebook_is_refused(tmp_path, content: bytes):
    (tmp_path / "n.ipynb").write_bytes(content)
    with pytest.raises(ParameterError, match=r"n\.ipynb: is not a Jupyter notebook"):
        notebook_defaults(tmp_path / "n.ipynb")
    with pytest.raises(ParameterError, match="no such notebook"):
        notebook_defaults(tmp_path / "other.ipynb")


def test_yaml_gives_a_mapping_of_names_to_plain_values(tmp_path):
    (tmp_path / "p.yaml").write_text("a: 1\nb: [0.1, 6.0e-4]\nc: &c {d: true}\ne: {<<: *c, d: 2}\n")
    assert read_yaml(tmp_path / "p.yaml") == {"a": 1, "b": [0.1, 6e-4], "c": {"d": True}, "e": {"d": 2}}


@pytest.mark.parametrize(
    "content",
    [b"", b"- 1\n- 2\n", b"word", b"1: a", b"a: [1", b"\xff\xfe\x00", b"a: 2001-99-99", b"a: !!int x", b"a: !!bool x",
     b"a: {x: 1, y: 2, x: 3}", b"[" * 1000, b"a: !!timestamp x", b"!!python/object/apply:os.system ['true']",
     b"a: \x00", b"? [1]\n: 2"],
)  # fmt: skip
def test_other_yaml_is_refused_with_the_file_name(tmp_path, content: bytes):
    (tmp_path / "p.yaml").write_bytes(content)
    with pytest.raises(ParameterError, match=r"p\.yaml: ") as error:
        read_yaml(tmp_path / "p.yaml")
    assert "\n" not in str(error.value)


def test_the_error_names_a_missing_file(tmp_path):
    with pytest.raises(ParameterError, match=r"p\.yaml: no such file"):
        read_yaml(tmp_path / "p.yaml")
    with pytest.raises(ParameterError, match="cannot be read"):
        read_yaml(tmp_path)


@given(text=st.text(st.sampled_from("ab:-[]{}!&*#|>%@'\"?, \n0123.e")) | st.text())
@settings(max_examples=100, deadline=None)
def test_any_yaml_text_is_a_mapping_or_refused_by_a_parameter_error(tmp_path_factory, text: str):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        assert isinstance(read_yaml(path), dict)
    except ParameterError as error:
        assert "\n" not in str(error)


def test_a_model_refuses_the_parameters_of_another_notebook():
    for model in (ToyBilevelParams, HypergradientParams, SelectParams):
        with pytest.raises(ParameterError):
            check(model, TOY)
