"""The search loop: its step by the plain definition, every method, exact resume, an unopened test set."""

import dataclasses
import itertools
import math
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import hdarts.data.request
from hdarts import search as s
from hdarts.bilevel import Hypergradient, Reparametrised
from hdarts.data import Images, load
from hdarts.errors import ParameterError
from hdarts.hypernetwork import ByKind, Linear
from hdarts.params import SearchParams, identity, read_yaml
from hdarts.runs import checkpoint
from hdarts.runs.lock import exclusive
from hdarts.runs.paths import notebooks_folder, with_defaults
from hdarts.runs.randomness import generator
from hdarts.runs.run import Run
from hdarts.search.log import Log
from hdarts.search.loop import pairs as loop_pairs
from hdarts.search.stages import stages_of
from hdarts.search.steps import training_alpha
from hdarts.search.weights import Classification, Exploration, GeneratedWeights, SGDSettings, Step
from hdarts.space import DARTS, Genotype

SMALL = {
    "data": "generated",
    "limit": 64,
    "channels": 2,
    "layers": 3,
    "epochs": 2,
    "batch_size": 16,
    "crop_padding": 1,
    "log_every": 1,
    "threads": 1,
    "device": "cpu",
    "keep_checkpoint": True,
}


CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def parameters(**changes) -> SearchParams:
    return with_defaults(SearchParams, SMALL | changes)


def whole(params: SearchParams) -> Run:
    run = Run.open(params)
    rows = list(s.search(params, run))
    assert len(rows) == (0 if params.method == "random" else params.epochs)
    return run


EXACT = ("alpha.csv", "metrics.csv", "hypergradients.csv", "genotype.json", "result.json")


def same(one: Run, other: Run) -> None:
    for name in EXACT:
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name
    states = [checkpoint.load(run.folder, identity(run.params)) for run in (one, other)]
    assert states[0] is not None and states[1] is not None
    for name, tensor in states[0]["weights"].items():
        assert torch.equal(tensor, states[1]["weights"][name]), name
    assert torch.equal(states[0]["alpha"], states[1]["alpha"])


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "darts-first"},
        {"method": "darts-second"},
        {"method": "unrolled", "steps": 2},
        {"method": "neumann", "terms": 2, "fresh_batches": True},
        {"method": "conjugate-gradient", "iterations": 2, "damping": 10.0},
        {"method": "nystrom", "rank": 2, "damping": 10.0},
        {"method": "sama", "nesterov": True},
        {"method": "amortised-adjoint", "adjoint_step": 0.01},
        {"hypernetwork": "linear"},
        {"hypernetwork": "mlp", "hidden": "shared", "activation": "tanh"},
        {"hypernetwork": "chunked", "embedding": 4},
        {"hypernetwork": "graph", "hidden_size": 4, "message_rounds": 1},
        {"hypernetwork": "low-rank", "rank": 2, "centred": True, "noise": 0.1, "antithetic": True},
        {"hypernetwork": "linear", "centred": True, "response_update": "tangent", "nesterov": True},
        {"hypernetwork": "linear", "rest": "generated", "initialisation": "zero-response", "part": "response"},
    ],
    ids=lambda changes: "-".join(str(value) for value in changes.values()),
)
@pytest.mark.filterwarnings("ignore::hdarts.hypergradient.HypergradientWarning")
def test_every_method_ends_with_a_valid_result(changes):
    run = whole(parameters(**changes, epochs=1))
    result = run.result
    assert result is not None
    Genotype.from_json((run.folder / "genotype.json").read_text())
    assert 0 <= result["best_validation_accuracy"] <= 100
    steps = run.table("hypergradients")
    assert len(steps) == 2 and steps.notna().drop(columns=["cosine"]).all(axis=None)
    generated = changes.get("method", "hypernetwork") == "hypernetwork" and changes.get("initialisation") is None
    if generated or changes.get("method") in ("darts-second", "unrolled"):
        assert steps["response_normal"].to_numpy().min() > 0
    if changes.get("method") == "darts-first":
        assert not steps["response_normal"].to_numpy().any()


def test_random_draws_a_cell_and_trains_nothing():
    one, other = whole(parameters(method="random")), whole(parameters(method="random", search_seed=20))
    assert one.result is not None and other.result is not None
    assert one.result["genotype"] != other.result["genotype"]
    assert "best_validation_accuracy" not in one.result
    searched = whole(parameters(method="darts-first", epochs=1)).provenance
    assert searched.keys() - one.provenance.keys() == {"kernels", "supernet_weights", "trained_weights"}
    assert one.provenance["data"] == {"name": searched["data"]["name"]}


@pytest.mark.parametrize("method", ["random", "darts-first"])
def test_a_folder_in_use_is_refused_before_any_file_is_written(method):
    run = Run.open(params := parameters(method=method))
    with exclusive(run.folder), pytest.raises(ParameterError, match="is in use by process"):
        list(s.search(params, run))
    assert [path.name for path in run.folder.iterdir() if path.name[0] != "."] == []


@pytest.mark.parametrize(
    ("training", "validation", "drop_last", "steps"),
    [
        (40, 40, False, 3),
        (60, 20, False, 4),
        (20, 60, False, 4),
        (33, 33, False, 2),
        (40, 40, True, 2),
        (60, 20, True, 1),
    ],
)
def test_an_epoch_leaves_out_no_image_unless_it_drops_the_last_batches(training, validation, drop_last, steps):
    params = parameters(drop_last=drop_last, crop_padding=0)
    data = s.load_splits(params, CPU)
    parts = [Images(data.train.pixels[[0] * n], torch.arange(n), data.mean, data.std) for n in (training, validation)]
    levels = s.batches(params, dataclasses.replace(data, train=parts[0], validation=parts[1]))
    assert s.epoch_steps(params, training, validation) == steps
    seen = [list(loop_pairs(params, levels, stages_of(params)[0], at_step(step), steps)) for step in range(steps)]
    labels = [[[y.tolist() for _, y in level] for level in zip(*rest, strict=True)] for rest in seen]
    assert len(labels[0][0]) == steps
    for level, count in enumerate((training, validation)):
        assert all(rest[level] == labels[0][level][step:] for step, rest in enumerate(labels)), "from a later step"
        once = list(itertools.chain(*labels[0][level]))[:count]
        assert len(set(once)) == (len(once) if drop_last else count - (count % 16 == 1))


def at_step(step: int) -> Any:
    return SimpleNamespace(epoch=1, step=step)


def test_a_search_learns():
    run = whole(parameters(method="darts-first", limit=160, epochs=4, learning_rate=0.1))
    accuracy = run.table("metrics")["validation_accuracy"]
    assert accuracy.iloc[-1] > 2 * 100 / len(load("generated", limit=80).classes)


def test_a_hypernetwork_step_is_the_plain_step_of_the_composed_problem():
    """Compared with back-propagation through h, clip_grad_norm_ and torch.optim.SGD on u = [phi | rest], in float64."""
    params = parameters(hypernetwork="mlp", rest="generated")
    data = s.load_splits(params, torch.device("cpu"))
    model = s.make_supernet(params, data)
    h = s.make_hypernetwork(params, model)
    problem = Classification(model)
    inner, outer = s.batches(params, data)
    pairs = [
        tuple((x.double(), y) for x, y in pair)
        for pair in zip(inner.epoch(0, "inner", 0), outer.epoch(0, "outer", 0), strict=True)
    ]
    alpha = 0.1 * torch.randn(DARTS.alpha_shape, generator=generator(0, "alpha"), dtype=torch.float64)
    phi = h.initial_phi(generator(0, "phi")).double()
    learned = model.initial_w(generator(0, "w")).double()[h.n_weights :]
    weights = GeneratedWeights(h, phi.clone(), learned.clone(), SGDSettings(0.9, 3e-4, 0.5), Exploration())
    plain = Reparametrised(problem, h, len(learned))
    u = torch.cat([phi, learned]).requires_grad_()
    optimiser = torch.optim.SGD([u], lr=0.1, momentum=0.9, weight_decay=3e-4)
    for inner_batch, outer_batch in pairs:
        result = s.method_hypergradient(params, problem, weights, alpha, inner_batch, outer_batch, 0.1)
        a = alpha.clone().requires_grad_()
        (expected,) = torch.autograd.grad(plain.outer(u, a, outer_batch), a)
        torch.testing.assert_close(result.total, expected, rtol=1e-9, atol=1e-11)

        weights.step(problem, alpha, inner_batch, 0.1, torch.zeros_like(alpha))
        optimiser.zero_grad()
        plain.inner(u, alpha, inner_batch).backward()
        torch.nn.utils.clip_grad_norm_([u], 0.5)
        optimiser.step()
        torch.testing.assert_close(torch.cat([weights.phi, weights.rest]), u.detach(), rtol=1e-9, atol=1e-11)


class Slope:
    """A problem whose loss is g^T w: one plain SGD step moves generated weights by their effective step along -g."""

    def __init__(self, g: torch.Tensor):
        self.g = g

    def outcome(self, w, alpha, batch):
        return w @ self.g, torch.tensor(0)


@pytest.mark.parametrize("changes", [{}, {"softmax": True}, {"centred": True}], ids=str)
@pytest.mark.parametrize("rest", [None, Linear(12, 2)], ids=["learned", "generated"])
def test_the_effective_step_is_the_longest_that_generated_weights_take(changes, rest):
    alpha = torch.tensor([[[0.5, -1.0], [2.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 1.0], [-1.0, 0.5]]]).double()
    h = ByKind([Linear(6, 4), Linear(6, 3)], rest)
    phi, g = h.initial_phi(generator(0)).double(), torch.arange(1.0, 10.0).double()
    learned = torch.zeros(9 - h.n_weights).double()
    weights = GeneratedWeights(h, phi, learned, SGDSettings(momentum=0.0, decay=0.0, clip=1e9), Exploration(**changes))
    effective = weights.diagnostics(alpha, 0.1)["effective_step"]
    before = weights.value(alpha)
    weights.step(Slope(g), alpha, (g, g), 0.1, torch.zeros_like(alpha))
    steps = (before - weights.value(alpha)) / g
    assert effective == pytest.approx(float(steps.max()))
    kinds = [float(part[0]) for part in steps[:7].split([4, 3])]
    assert changes == {"centred": True} or kinds[0] != pytest.approx(kinds[1]), "each kind has a different alpha"


def test_zero_response_starts_with_the_initial_weights_of_the_layers():
    params = parameters(hypernetwork="mlp", initialisation="zero-response")
    model = s.make_supernet(params, s.load_splits(params, torch.device("cpu")))
    weights = s.make_weights(params, model, None, torch.device("cpu"))
    alpha = torch.randn(DARTS.alpha_shape)
    assert torch.equal(weights.value(alpha), model.initial_w(generator(params.search_seed, "weights")))
    assert isinstance(weights, GeneratedWeights) and not weights.response(alpha, torch.ones(model.n_w)).any()


@pytest.mark.parametrize(
    "changes",
    [{"method": "amortised-adjoint"}, {"hypernetwork": "linear", "centred": True, "response_update": "tangent"}],
)
def test_a_search_stopped_between_epochs_equals_an_uninterrupted_one(changes):
    uninterrupted = whole(parameters(**changes, run="uninterrupted"))
    broken = parameters(**changes, run="broken")
    next(iter(s.search(broken, Run.open(broken))))
    same(uninterrupted, whole_again(broken))


def whole_again(params: SearchParams) -> Run:
    run = Run.open(params)
    assert len(list(s.search(params, run))) < params.epochs, "it started afresh"
    return run


KILLED = """
import json, sys
from hdarts.params import SearchParams, check
from hdarts.runs.run import Run
from hdarts.search import search
params = check(SearchParams, json.loads(sys.argv[1]))
print("started", flush=True)
list(search(params, Run.open(params)))
"""


@pytest.mark.soak  # tests/runs/test_faults.py kills a search once
def test_a_search_killed_at_random_moments_equals_an_uninterrupted_one(runs):
    changes = {"hypernetwork": "linear", "epochs": 3, "checkpoint_minutes": 0.001}
    uninterrupted = whole(parameters(**changes, run="uninterrupted"))
    killed = parameters(**changes, run="killed")
    seed = random.randrange(10**6)
    print(f"kill points drawn with seed {seed}")
    moments = random.Random(seed)
    command = [sys.executable, "-c", KILLED, killed.model_dump_json()]
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "HDARTS_RUNS": str(runs)})
        assert process.stdout is not None and process.stdout.readline() == b"started\n"
        time.sleep(moments.uniform(0.05, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HDARTS_RUNS": str(runs)})
    same(uninterrupted, Run.open(killed))


def test_a_global_search_trains_the_hypernetwork_first_and_then_alpha_alone():
    run = whole(parameters(epochs=3, global_epochs=2, keep_epochs=[1, 2, 3]))
    start, first, second, third = (s.alpha_at(run, epoch) for epoch in range(4))
    assert torch.equal(start, first) and torch.equal(start, second)
    assert not torch.equal(second, third)
    kept = [checkpoint.read(run.folder / f"checkpoint.epoch-{epoch}.pt", identity(run.params)) for epoch in (1, 2, 3)]
    one, two, three = (saved["weights"]["phi"] for saved in kept)
    assert not torch.equal(one, two)
    assert torch.equal(two, three)
    velocities = [saved["weights"]["phi_velocity"] for saved in kept]
    assert torch.equal(velocities[1], velocities[2]), "frozen weights take no step"
    rates = run.table("metrics")["learning_rate"].tolist()
    assert rates[0] > rates[1] > rates[2] == 0


def test_a_hypergradient_is_computed_only_if_it_steps_alpha_or_is_logged():
    calls = []

    def counted(*given):
        calls.append(given)
        return s.method_hypergradient(params, *given)

    params = parameters(epochs=2, global_epochs=1, log_every=1000)
    assert len(list(s.search(params, Run.open(params), hypergradient=counted))) == 2
    steps = len(calls) - 1  # the first step of the first epoch is logged, all of the second step alpha
    assert steps == 2


def test_a_global_search_trains_at_wide_draws_of_alpha():
    seen = {}
    for scale in (0.5, 2.0):
        params = parameters(epochs=2, global_epochs=1, global_scale=scale)
        state = s.State.fresh(params, s.make_supernet(params, s.load_splits(params, torch.device("cpu"))), None, CPU)
        seen[scale] = torch.stack(
            [training_alpha(params, dataclasses.replace(state, step=step))[0] for step in range(5)]
        )
    assert torch.allclose(4 * seen[0.5], seen[2.0])
    assert seen[2.0].std().item() == pytest.approx(2.0, rel=0.1)
    assert not torch.equal(seen[2.0][0], seen[2.0][1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"global_epochs": 2}, "leaves no epoch for alpha: epochs is 2"),
        ({"global_epochs": 1, "method": "darts-first"}, "needs method hypernetwork"),
        ({"global_epochs": 1, "centred": True, "noise": 0.1}, "not centred"),
    ],
)
def test_a_global_search_that_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        parameters(**changes)


def test_a_search_that_is_done_is_read_not_computed():
    params = parameters(method="darts-first")
    run = whole(params)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    again = list(s.search(params, Run.open(params), supernet=None, data=None))
    assert [row["epoch"] for row in again] == [1, 2]
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_deterministic_changes_nothing_on_the_cpu():
    plain = whole(parameters(run="plain"))
    deterministic = whole(parameters(run="deterministic", deterministic=True))
    torch.use_deterministic_algorithms(False)
    same(plain, deterministic)


def test_damaged_images_are_left_out_by_a_parameter_and_counted(tmp_path, capsys):
    folder = small_images(tmp_path / "images" / "train")
    (folder / "1" / "00.png").write_bytes(b"no image")
    changes = {"method": "darts-first", "data": str(folder.parent), "limit": 0, "batch_size": 4, "epochs": 1}
    with pytest.raises(ParameterError, match=r"1/00\.png: is not an image"):
        whole(parameters(**changes))
    run = whole(parameters(**changes, skip_damaged=True))
    data = run.provenance["data"]
    assert (data["train"] + data["validation"], data["damaged_left_out"]) == (19, 1)
    assert "left out 1 damaged images" in capsys.readouterr().err


def small_images(folder):
    """Two classes of ten images."""
    for label, number in itertools.product("01", range(10)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(0, 256, (8, 8, 3), generator=generator(number, "image", label)).byte()
        Image.fromarray(pixels.numpy()).save(folder / label / f"{number:02}.png")
    return folder


def test_a_search_killed_before_its_result_equals_an_uninterrupted_one():
    """Killed after the loop, while a notebook draws its figures; the next start only writes the result."""
    uninterrupted = whole(parameters(method="darts-first", run="uninterrupted"))
    params = parameters(method="darts-first", run="killed")
    run = Run.open(params)
    rows = s.search(params, run, finish=False)
    next(rows)
    with pytest.raises(ParameterError, match="has not reached its end"):
        s.finish(params, run)
    list(rows)
    assert not run.done and list(s.search(params, run, finish=False)) == []
    s.finish(params, run)
    same(uninterrupted, run)


def test_kept_checkpoints_stay_and_the_rotating_one_is_removed():
    run = whole(parameters(method="darts-first", keep_epochs=[1], keep_checkpoint=False))
    assert sorted(path.name for path in run.folder.glob("*.pt")) == ["checkpoint.epoch-1.pt"]
    (run.folder / checkpoint.NEWEST).write_bytes(b"")  # as after a kill between result.json and the removal
    assert len(list(s.search(run.params, run))) == 2  # type: ignore[arg-type]
    assert not (run.folder / checkpoint.NEWEST).exists()


def test_the_test_set_is_never_opened(monkeypatch):
    def closed(*request):
        return dataclasses.replace(find(*request), parts={"test": lambda: pytest.fail("the test set was opened")})

    find = hdarts.data.request.find
    monkeypatch.setattr("hdarts.data.request.find", closed)
    with pytest.raises(pytest.fail.Exception, match="was opened"):
        load("generated", limit=80, test=True)
    assert whole(parameters(method="darts-first", epochs=1)).done


def test_a_loss_that_is_not_finite_stops_at_its_step():
    params = parameters(method="darts-first", learning_rate=1e30)
    with pytest.raises(FloatingPointError, match=r"epoch 1, step \d"):
        list(s.search(params, Run.open(params)))
    assert Run.open(params).result is None


@pytest.fixture(scope="module")
def half_way(tmp_path_factory):
    """A search that was stopped after its first epoch: its runs folder."""
    root = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HDARTS_RUNS", str(root))
        params = parameters(method="darts-first", run="half")
        rows = s.search(params, Run.open(params))
        next(rows)
        rows.close()  # type: ignore[attr-defined]
    return root


@given(
    name=st.sampled_from(["metrics", "hypergradients", "alpha", "timings"]),
    cut=st.floats(0, 1),
    tail=st.text(st.sampled_from('01,."\n\r ax-')) | st.text(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damaged_end_of_a_table_is_accepted_or_refused_in_one_sentence(half_way, monkeypatch, name, cut, tail):
    monkeypatch.setenv("HDARTS_RUNS", str(half_way))
    params = parameters(method="darts-first", run="half")
    run = Run.open(params)
    state = s.State.fresh(params, s.make_supernet(params, s.load_splits(params, CPU)), None, CPU)
    state.restore(checkpoint.load(run.folder, identity(params)))
    path = run.folder / f"{name}.csv"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[: int(cut * len(whole))] + tail.encode())
        Log.resume(run, state)
    except ParameterError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    finally:
        path.write_bytes(whole)


def test_the_error_for_a_value_that_is_not_finite_names_step_norms_and_last_checkpoint():
    params = parameters(method="darts-first")
    run = Run.open(params)
    following = iter(s.search(params, run))
    next(following)

    def broken(problem, weights, alpha, *_):
        return Hypergradient(torch.full_like(alpha, torch.nan), torch.zeros_like(alpha))

    following.close()  # type: ignore[attr-defined]
    text = r"epoch 2, step 0: the hypergradient is not finite; norms: alpha \S+, w \S+, .*the last checkpoint is .*\.pt"
    with pytest.raises(FloatingPointError, match=text):
        list(s.search(params, run, hypergradient=broken))


def test_the_first_step_of_an_epoch_that_was_not_finite_is_named():
    params = parameters(method="darts-first")
    state = s.State.fresh(params, s.make_supernet(params, s.load_splits(params, CPU)), None, CPU)
    for loss in (torch.nan, 1.0, torch.nan):
        state.count(Step(torch.tensor(loss), torch.tensor(1), torch.tensor(1.0)), 4)
    with pytest.raises(FloatingPointError, match="epoch 1, step 0: loss, gradient or alpha is not finite"):
        state.check()


def test_weights_that_are_no_longer_finite_are_not_saved_over_good_ones(monkeypatch):
    params = parameters(method="darts-first", checkpoint_minutes=1e-9)
    run, real = Run.open(params), s.State.count

    def breaking(state, *rest):
        real(state, *rest)
        if (state.epoch, state.step) == (1, 1):
            state.weights.w[0] = torch.inf

    monkeypatch.setattr(s.State, "count", breaking)
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 1: w is not finite after the step"):
        list(s.search(params, run))
    saved = checkpoint.load(run.folder, identity(params))
    assert saved is not None and (saved["epoch"], saved["step"]) == (1, 0)
    assert bool(torch.isfinite(saved["weights"]["w"]).all())


def test_a_hypernetwork_whose_step_grows_with_alpha_causes_a_warning():
    params = parameters(hypernetwork="linear", alpha_learning_rate=0.5)
    with pytest.warns(RuntimeWarning, match=r"epoch 1, step 1: .* = [\d.]+, is \d+ times the learning rate") as warned:
        list(s.search(params, Run.open(params)))
    assert 1 <= len(warned) <= 3


def test_a_batch_larger_than_the_set_is_refused():
    params = parameters(batch_size=64)
    with pytest.raises(ParameterError, match=r"batch_size is 64 .* 32"):
        list(s.search(params, Run.open(params)))


def test_alpha_of_each_epoch_can_be_read_back():
    run = whole(parameters(method="darts-first"))
    state = checkpoint.load(run.folder, identity(run.params))
    assert state is not None
    torch.testing.assert_close(s.alpha_at(run).float(), state["alpha"])
    assert s.alpha_at(run, 0).abs().max() < 0.01
    assert math.isclose(s.entropies(s.weights_at(run, 0), DARTS)["entropy_normal"], math.log(8), abs_tol=1e-4)


def test_presets_have_the_settings_of_the_thesis():
    folder = notebooks_folder().parent / "params" / "search"
    table = {"hyperdarts-1": (48, 0.05, 6e-4, 49, "linear"), "hyperdarts-2": (64, 0.075, 9e-4, 50, "mlp")}
    for name, expected in table.items():
        preset = read_yaml(folder / f"{name}.yaml")
        keys = ("batch_size", "learning_rate", "alpha_learning_rate", "epochs", "hypernetwork")
        assert tuple(preset[key] for key in keys) == expected
        assert preset["learning_rate_min"] == 0 and preset["channels"] == 16 and preset["layers"] == 8


def test_custom_parts_are_passed_as_objects():
    params = parameters(method="darts-first", epochs=1)
    rates = []

    def custom(problem, weights, alpha, inner, outer, rate):
        rates.append(rate)
        return Hypergradient(torch.ones_like(alpha), torch.zeros_like(alpha))

    data = dataclasses.replace(s.load_splits(params, torch.device("cpu")), name="mine")
    run = Run.open(params)
    assert list(s.search(params, run, data=data, hypergradient=custom)) and len(rates) == 2
    assert (s.alpha_at(run) < s.alpha_at(run, 0)).all()


def test_each_term_of_a_series_has_a_fresh_batch_that_depends_on_seed_epoch_and_step_only():
    params = parameters(method="neumann", terms=3, fresh_batches=True, limit=96, checkpoint_minutes=1e-9, epochs=1)
    taken: list[list[Any]] = []

    def listed(problem, weights, alpha, inner, outer, rate):
        taken.append(inner)
        if len(taken) == 3:  # of the epoch's steps; the two before have been saved
            raise KeyboardInterrupt
        return Hypergradient(torch.zeros_like(alpha), torch.zeros_like(alpha))

    with pytest.raises(KeyboardInterrupt):
        list(s.search(params, Run.open(params), hypergradient=listed))
    list(s.search(params, Run.open(params), hypergradient=listed))
    assert [len(inner) for inner in taken] == [3] * 4
    pixels = torch.stack([x for inner in taken[:3] for x, _ in inner])
    assert len(pixels.flatten(1).unique(dim=0)) == 9, "all are different"
    assert all(
        torch.equal(a, b) for one, other in zip(*taken[2:], strict=True) for a, b in zip(one, other, strict=True)
    )


def test_custom_parts_are_moved_to_the_device_of_the_search():
    params = parameters(method="hypernetwork", epochs=1)
    data = s.load_splits(params, CPU)
    supernet = s.make_supernet(params, data)
    moves = []

    @dataclasses.dataclass
    class Elsewhere:
        part: object

        def to(self, device):
            moves.append(device)
            return self.part

    parts = {"data": data, "supernet": supernet, "hypernetwork": s.make_hypernetwork(params, supernet)}
    elsewhere: dict[str, Any] = {name: Elsewhere(part) for name, part in parts.items()}
    assert list(s.search(params, Run.open(params), **elsewhere))
    assert moves == [CPU] * 3
    onto = data.to("meta")
    assert onto.validation is not None and onto.test is None
    assert {x.device.type for part in (onto.train, onto.validation) for x in vars(part).values()} == {"meta"}


def test_a_step_that_was_not_finite_is_found_later():
    """As on a GPU, where the host reads no number in a step."""
    params = parameters(method="darts-first")
    state = s.State.fresh(params, s.make_supernet(params, s.load_splits(params, CPU)), None, CPU)
    state.check()
    for loss in (1.0, float("nan"), float("nan")):
        state.count(Step(*(torch.tensor(loss) for _ in range(3))), 1)
    with pytest.raises(FloatingPointError, match="epoch 1, step 1: "):
        state.check()


def test_bfloat16_is_near_float32_and_keeps_weights_in_float32():
    params = parameters(precision="bfloat16", method="darts-second")
    data = s.load_splits(params, CPU)
    net = s.make_supernet(params, data)
    w, alpha = net.initial_w(generator(0)).requires_grad_(), torch.zeros(DARTS.alpha_shape).requires_grad_()
    batch = next(iter(s.batches(params, data)[0].epoch(0, "test", 0)))
    result = [
        torch.autograd.grad(Classification(net, p).inner(w, alpha, batch), (w, alpha)) for p in ("float32", "bfloat16")
    ]
    for single, half in zip(*result, strict=True):
        assert half.dtype == torch.float32
        assert not torch.equal(single, half) and torch.cosine_similarity(single.flatten(), half.flatten(), 0) > 0.9
    rows = list(s.search(params, Run.open(params)))
    assert all(math.isfinite(row["train_loss"]) for row in rows)
