"""Studies: expansion into runs, precedence of the layers, labels, names, and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from helpers.small_project import STUDY, plan_study, write_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hdarts.errors import ParameterError
from hdarts.params import SearchParams
from hdarts.workbook import study as studies
from hdarts.workbook.analysis.runs import scale_note
from hdarts.workbook.study import Plan, PlannedRun, read_runs, record_plan
from hdarts.workbook.study.file import Stage
from hdarts.workbook.study.runner import starting_order


@pytest.fixture(autouse=True)
def _runs_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def tiny(tmp_path: Path) -> Plan:
    return plan_study(write_project(tmp_path))


def stage(plan: Plan, name: str) -> list[PlannedRun]:
    return [run for run in plan.runs if run.stage == name]


def value(run: PlannedRun, name: str) -> object:
    return getattr(run.params, name)


def test_every_arm_has_every_value_of_the_matrix(tiny: Plan) -> None:
    runs = stage(tiny, "toy")
    assert [(run.labels["arm"], run.labels["seed"]) for run in runs] == [
        (arm, seed) for seed in (2, 20) for arm in ("slow", "fast", "random")
    ]
    assert [value(run, "seed") for run in runs] == [2] * 3 + [20] * 3


def test_a_study_that_is_stopped_has_run_all_settings_equally_often(tmp_path: Path) -> None:
    arms = "arms: {slow: {}, many: {matrix: {most_steps: [2, 3]}}}"
    text = f"study: s\nstages: {{toy: {{notebook: 01_toy, {arms}, matrix: {{seed: [2, 20]}}}}}}\n"
    plan = plan_study(write_project(tmp_path, text))
    order = starting_order(plan.runs)
    assert [(run.labels["arm"], run.labels["seed"]) for run in sorted(plan.runs, key=lambda run: order[run.name])] == [
        ("slow", 2), ("many", 2), ("many", 2), ("slow", 20), ("many", 20), ("many", 20)
    ]  # fmt: skip


def test_two_parameters_vary_together(tmp_path: Path) -> None:
    text = """study: s\nstages: {toy: {notebook: 01_toy, matrix: {"seed, most_steps": [[2, 3], [20, 4]]}}}\n"""
    runs = plan_study(write_project(tmp_path, text)).runs
    assert [(value(run, "seed"), value(run, "most_steps")) for run in runs] == [(2, 3), (20, 4)]
    assert [dict(run.labels) for run in runs] == [{"seed": 2, "most_steps": 3}, {"seed": 20, "most_steps": 4}]
    with pytest.raises(ParameterError, match=r"`matrix`: seed, most_steps needs lists of 2 values, not \[2\]"):
        plan_study(write_project(tmp_path, text.replace("[2, 3]", "[2]")))


PRIMARY = STUDY.replace("stages:", "primary: [{arms: [random, fast]}]\nstages:", 1)


def test_arms_of_the_primary_comparisons_run_first(tmp_path: Path) -> None:
    runs = stage(plan_study(write_project(tmp_path, PRIMARY)), "toy")
    order = [(run.labels["arm"], run.labels["seed"]) for run in runs]
    assert order == [("fast", 2), ("random", 2), ("fast", 20), ("random", 20), ("slow", 2), ("slow", 20)]


def test_primary_comparisons_have_known_arms(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="`primary`: no stage has an arm 'quick'; known are slow, fast, random"):
        plan_study(write_project(tmp_path, PRIMARY.replace("[random, fast]", "[random, quick]")))


def test_primary_comparisons_cannot_change_once_a_run_is_done(tmp_path: Path) -> None:
    plan = plan_study(write_project(tmp_path, PRIMARY))
    record_plan(plan)
    changed = write_project(tmp_path, PRIMARY.replace("[random, fast]", "[slow, fast]"))
    record_plan(plan_study(changed))  # nothing is done yet
    folder = plan.runs[0].folder
    folder.mkdir(parents=True)
    (folder / "result.json").write_text("{}")
    plan_study(changed)
    with pytest.raises(ParameterError, match="`primary` was slow against fast when its runs began, and is random"):
        plan_study(write_project(tmp_path, PRIMARY))
    with pytest.raises(ParameterError, match="and is nothing now"):
        plan_study(write_project(tmp_path, STUDY))


def test_groups_get_the_names_of_their_runs(tiny: Plan) -> None:
    toys = tuple(run.name for run in stage(tiny, "toy") if run.labels["arm"] == "slow")
    slow, fast = stage(tiny, "select")
    assert value(slow, "searches") == list(toys)
    assert slow.needs == toys
    assert slow.labels == {"arm": "slow"} and fast.labels == {"arm": "fast"}


def test_no_label_to_group_by_makes_one_group_of_all(tmp_path: Path) -> None:
    plan = plan_study(write_project(tmp_path, STUDY.replace("by: arm, except: {arm: random}", "by: []")))
    (only,) = stage(plan, "select")
    assert value(only, "searches") == [run.name for run in stage(plan, "toy")]


def test_a_run_made_for_another_inherits_its_labels(tiny: Plan) -> None:
    looks = stage(tiny, "look")
    assert [run.labels for run in looks] == [
        {"arm": "slow", "batch_size": 4},
        {"arm": "fast", "batch_size": 4},
        {"arm": "random", "seed": 2, "batch_size": 4},
    ]
    assert [value(run, "search") for run in looks] == [run.needs[0] for run in looks]


def test_a_label_that_two_stages_give_keeps_both(tmp_path: Path) -> None:
    study = STUDY.replace("matrix: {batch_size: [4]}", "matrix: {seed: [7]}")
    last = stage(plan_study(write_project(tmp_path, study)), "look")[-1]
    assert last.labels == {"arm": "random", "toy.seed": 2, "seed": 7}
    assert value(last, "seed") == 7


def test_after_everything_waits_for_all_runs_before(tiny: Plan) -> None:
    *others, analysis = tiny.runs
    assert analysis.needs == tuple(run.name for run in others)


LAYERS = """
study: layers
stages:
  toy:
    notebook: 01_toy
    {preset}
    {parameters}
    arms: {{only: {{{arm}}}}}
    {matrix}
"""


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ({}, 2),  # the notebook's parameters cell
        ({"preset": "preset: stage"}, 10),
        ({"preset": "preset: stage", "arm": "preset: arm"}, 20),
        ({"arm": "preset: arm", "parameters": "parameters: {most_steps: 30}"}, 30),
        ({"arm": "preset: arm, parameters: {most_steps: 40}", "parameters": "parameters: {most_steps: 30}"}, 40),
        ({"arm": "parameters: {most_steps: 40}", "matrix": "matrix: {most_steps: [50]}"}, 50),
    ],
)
def test_later_layers_win(tmp_path: Path, layers: dict[str, str], wanted: int) -> None:
    nothing = dict.fromkeys(("preset", "parameters", "arm", "matrix"), "")
    path = write_project(tmp_path, LAYERS.format(**nothing | layers))
    (tmp_path / "params" / "stage.yaml").write_text("most_steps: 10\n")
    (tmp_path / "params" / "arm.yaml").write_text("most_steps: 20\n")
    assert value(plan_study(path).runs[0], "most_steps") == wanted


def test_names_consist_of_study_stage_labels_and_hash(tiny: Plan, tmp_path: Path) -> None:
    assert not (tmp_path / "runs").exists()
    study, where, name = stage(tiny, "toy")[0].name.split("/")
    assert (study, where) == ("tiny", "toy")
    assert name.startswith("slow-seed=2-") and len(name) == len("slow-seed=2-") + 8
    assert value(stage(tiny, "toy")[0], "run") == stage(tiny, "toy")[0].name
    assert stage(tiny, "analysis")[0].name.startswith("tiny/analysis/analysis-")


def test_a_changed_parameter_names_another_run_and_all_that_follow(tmp_path: Path) -> None:
    before = {run.name for run in plan_study(write_project(tmp_path)).runs}
    (tmp_path / "params" / "slow.yaml").write_text("most_steps: 8\n")
    after = {run.name for run in plan_study(tmp_path / "study.yaml").runs}
    changed = sorted(name.rsplit("-", 1)[0] for name in after - before)
    assert changed == [
        "tiny/analysis/analysis",
        "tiny/look/slow-batch_size=4",
        "tiny/select/slow",
        "tiny/toy/slow-seed=2",
        "tiny/toy/slow-seed=20",
    ]


def test_the_table_of_runs_has_the_labels_of_each_stage(tiny: Plan, tmp_path: Path) -> None:
    assert record_plan(tiny) == ""
    toys = read_runs("tiny", "toy")
    assert list(toys["arm"]) == ["slow", "fast", "random"] * 2
    assert list(toys["seed"]) == [2] * 3 + [20] * 3 and toys["seed"].dtype == int
    assert list(read_runs("tiny", "select").columns) == ["stage", "run", "arm", "needs"]
    assert list(read_runs("tiny")["run"]) == [run.name for run in tiny.runs]
    assert (tmp_path / "runs" / "tiny" / "study.yaml").read_text() == STUDY


def test_changes_of_a_study_are_reported(tiny: Plan, tmp_path: Path) -> None:
    record_plan(tiny)
    gone = stage(tiny, "toy")[-1]
    gone.folder.mkdir(parents=True)
    message = record_plan(plan_study(write_project(tmp_path, STUDY.replace("[2, 20]", "[2, 3]"))))
    assert message.startswith("study tiny changed since its last start: stages.toy.matrix.seed: [2, 20], now [2, 3]; ")
    assert gone.name in message
    assert gone.folder.is_dir()


COMMON = """
study: tiny
stages:
  toy: {notebook: 01_toy, parameters: {most_steps: 30}, matrix: {seed: [2, 20]}}
  analysis: {notebook: 04_analysis, parameters: {study: tiny}, after: everything}
scales:
  mini:
    about: three steps instead of thirty
    stages:
      toy: {parameters: {most_steps: 3}, matrix: {seed: [2]}, arms: {elsewhere: {parameters: {most_steps: 5}}}}
      analysis: {parameters: {study: tiny-mini}}
      look: {parameters: {batch_size: 4}}
"""
ONE = "include: [common.yaml]\ntitle: One\nstages: {toy: {arms: {slow: {}, many: {matrix: {seed: [1, 2, 3]}}}}}\n"


def project_of_two(root: Path, one: str = ONE, common: str = COMMON) -> Path:
    path = write_project(root, one)
    (root / "common.yaml").write_text(common)
    return path


def test_a_file_overrides_what_it_includes_entry_by_entry(tmp_path: Path) -> None:
    plan = plan_study(project_of_two(tmp_path))
    assert (plan.study.study, plan.study.title, plan.study.scale) == ("tiny", "One", "")
    assert {value(run, "most_steps") for run in stage(plan, "toy")} == {30}


def test_the_matrix_of_an_arm_overrides_that_of_its_stage(tmp_path: Path) -> None:
    toys = stage(plan_study(project_of_two(tmp_path)), "toy")
    assert [(run.labels["arm"], run.labels["seed"]) for run in toys] == [
        ("slow", 2), ("many", 1), ("slow", 20), ("many", 2), ("many", 3)
    ]  # fmt: skip


def test_a_scale_changes_what_the_study_has_and_adds_no_stage_nor_arm(tmp_path: Path) -> None:
    plan = plan_study(project_of_two(tmp_path), "mini")
    assert plan.study.study == "tiny-mini" and plan.study.scale == "three steps instead of thirty"
    assert list(plan.study.stages) == ["toy", "analysis"]
    toys = stage(plan, "toy")
    assert [run.labels["arm"] for run in toys] == ["slow", "many", "many", "many"]
    assert {value(run, "most_steps") for run in toys} == {3}
    assert all(run.name.startswith("tiny-mini/") for run in plan.runs)


def test_a_scale_leaves_out_what_it_sets_to_null(tmp_path: Path) -> None:
    common = COMMON.replace("arms: {elsewhere:", "arms: {slow: null, elsewhere:")
    common = common.replace("analysis: {parameters: {study: tiny-mini}}", "analysis: null")
    plan = plan_study(project_of_two(tmp_path, common=common), "mini")
    assert {(run.stage, run.labels["arm"]) for run in plan.runs} == {("toy", "many")}
    assert {run.labels["arm"] for run in stage(plan_study(tmp_path / "study.yaml"), "toy")} == {"slow", "many"}


def test_a_study_at_a_scale_is_recorded_with_all_entries_and_its_scale(tmp_path: Path) -> None:
    record_plan(plan_study(project_of_two(tmp_path), "mini"))
    kept = yaml.safe_load((tmp_path / "runs" / "tiny-mini" / "study.yaml").read_text())
    assert kept["study"] == "tiny-mini" and "include" not in kept
    assert scale_note("tiny-mini") == "three steps instead of thirty" and scale_note("tiny") == ""
    (tmp_path / "common.yaml").write_text(COMMON.replace("most_steps: 3}", "most_steps: 4}"))
    message = record_plan(plan_study(tmp_path / "study.yaml", "mini"))
    assert "since its last start: stages.toy.parameters.most_steps: 3, now 4; " in message


@pytest.mark.parametrize(
    ("one", "common", "scale", "message"),
    [
        (ONE, COMMON, "maxi", "scale 'maxi' is not known; known are full, mini"),
        (ONE.replace("common.yaml", "none.yaml"), COMMON, "full", r"none\.yaml: no such file"),
        (ONE.replace("[common.yaml]", "common.yaml"), COMMON, "full", "`include` must be a list of files"),
        (ONE, COMMON + "include: [study.yaml]", "full", "includes itself"),
        (ONE, COMMON.replace("about: three", "abuot: three"), "mini", "`scales.mini.abuot`: unknown entry"),
        (ONE, COMMON.replace("{most_steps: 3}", "{most_steps: no}"), "mini", "`most_steps` = False"),
        (ONE, COMMON.replace("  mini:", "  mini: 3\n  other:"), "mini", "`scales` must map names"),
    ],
)
def test_bad_includes_and_scales_are_refused_in_one_sentence(tmp_path: Path, one, common, scale, message) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        plan_study(project_of_two(tmp_path, one, common), scale)
    assert "\n" not in str(caught.value) and not (tmp_path / "runs").exists()


BAD = [
    ("study: tiny", "study: ../up", "study", "lower-case letters"),
    ("study: tiny", "study: interactive", "interactive", "choose another"),
    ("stages:", "stags:", "stags", "did you mean `stages`?"),
    ("  toy:", "  to/y:", "to/y", "lower-case letters"),
    ("{slow: {preset: slow}, ", "{Slow: {preset: slow}, ", "Slow", "lower-case letters"),
    ("notebook: 01_toy", "notebook: 01_toys", "01_toys", "known are 01_toy"),
    ("notebook: 01_toy", "notebook: ../01_toy", "../01_toy", "lower-case letters"),
    ("preset: slow", "preset: sloww", "sloww.yaml", "no such file"),
    ("preset: slow", "preset: ../slow", "../slow", "lower-case letters"),
    ("matrix: {seed: [2, 20]}", "matrix: {sead: [2, 20]}", "sead", "did you mean `seed`?"),
    ("matrix: {seed: [2, 20]}", "matrix: {seed: [2, two]}", "'two'", "integer"),
    ("matrix: {seed: [2, 20]}", "matrix: {seed: []}", "seed", "at least 1"),
    ("matrix: {seed: [2, 20]}", "matrix: {seed: [2, 2]}", "seed=2", "listed twice"),
    ("matrix: {seed: [2, 20]}", "matrix: {seed: [2, -1]}", "-1", "greater than or equal to 0"),
    ("fast: {}", "fast: {parameters: {most_steps: 1}}", "most_steps", "arm fast"),
    ("fast: {}", "fast: {parameters: {run: mine}}", "`run`", "chosen by the study"),
    ("fast: {}", "fast: {parameters: {preset: slow}}", "`preset`", "in the stage or the arm"),
    ("stage: select,", "stage: analysis,", "analysis", "does not come before it"),
    ("by: arm", "by: arms", "'arms'", "it has arm, seed"),
    ("where: {arm: random, seed: 2}", "where: {arm: nothing}", "toy", "leave no run"),
    ("as: searches", "as: search", "unknown parameter `search`", "did you mean `searches`?"),
    ("after: everything}", "parameters: [study]}", "parameters", "dictionary"),
    ("after: everything}", "parameters: {study: old}}", "'tiny' this analysis shows 'tiny'", "`reads: old`"),
    ("notebook: 01_toy", "notebook: 01_toy\n    reads: old", "`reads`", "reads no study"),
    ("each: {stage: toy,", "arms: {a: {}}\n    each: {stage: toy,", "`arms` and `each`", "stage select"),
    (STUDY, "- a\n- list\n", "study.yaml", "mapping"),
    (STUDY, "a: [", "study.yaml", "YAML"),
]


@pytest.mark.parametrize(("text", "instead", "named", "allowed"), BAD)
def test_bad_studies_are_refused_in_one_sentence(
    tmp_path: Path, text: str, instead: str, named: str, allowed: str
) -> None:
    assert text in STUDY
    with pytest.raises(ParameterError) as caught:
        plan_study(write_project(tmp_path, STUDY.replace(text, instead)))
    message = str(caught.value)
    assert "study.yaml" in message and named in message and allowed in message and "\n" not in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("stage", "shown"), [("", "tiny"), (", parameters: {study: tiny}", "tiny"), (", reads: old", "old")]
)
def test_an_analysis_shows_its_study_unless_its_stage_reads_another(tmp_path: Path, stage: str, shown: str) -> None:
    text = STUDY.replace("after: everything}", f"after: everything{stage}}}")
    analysis = plan_study(write_project(tmp_path, text)).runs[-1].params
    assert analysis.study == shown  # type: ignore[attr-defined]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["toy", "../up", "/", "run"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["arms", "run"]), inner),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to all entries of nested mappings and lists."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in parts for found in [(*path, key), *places(inner, (*path, key))]]


@given(data=st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_study_leads_to_a_traceback_or_out_of_the_runs_folder(tmp_path: Path, data) -> None:
    """The small study with one entry replaced or added at random."""
    study = yaml.safe_load(STUDY)
    *path, last = data.draw(st.sampled_from(places(study)))
    place = study
    for key in path:
        place = place[key]
    if isinstance(place, dict) and data.draw(st.booleans()):
        last = data.draw(st.text() | st.sampled_from([*Stage.model_fields, "by", "as", "where", "except"]))
    place[last] = data.draw(VALUES)
    file = write_project(tmp_path, yaml.safe_dump(study, allow_unicode=True))
    try:
        plan = plan_study(file)
    except ParameterError as error:
        assert "\n" not in str(error)
    else:
        root = (tmp_path / "runs").resolve()
        assert all(run.folder.is_relative_to(root) and run.folder != root for run in plan.runs)
    assert not (tmp_path / "runs").exists()


def test_a_misspelt_entry_of_any_characters_is_named_on_one_line(tmp_path: Path) -> None:
    path = write_project(tmp_path, yaml.safe_dump(yaml.safe_load(STUDY) | {"\n\x1bm": None}))
    with pytest.raises(ParameterError, match=r"`\\n\\x1bm` = 'None': unknown entry") as error:
        plan_study(path)
    assert str(error.value).isprintable()


def without_parameters_cell(notebook: Path) -> None:
    notebook.write_text(notebook.read_text().replace('"parameters"', '"other"'))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("study.yaml", Path.unlink, r"study\.yaml: no such file"),
        ("notebooks/02_select.ipynb", Path.unlink, r"02_select\.ipynb: no such notebook"),
        (
            "notebooks/02_select.ipynb",
            without_parameters_cell,
            r"02_select\.ipynb: has no cell tagged `parameters`",
        ),
        ("runs/tiny", lambda folder: (folder / "some" / "file").mkdir(parents=True), "was not made by `hdarts run`"),
    ],
)
def test_missing_and_foreign_files_are_named(tmp_path: Path, name: str, damage: Callable, message: str) -> None:
    path = write_project(tmp_path)
    damage(tmp_path / name)
    with pytest.raises(ParameterError, match=message):
        plan_study(path)


def test_a_run_folder_of_other_parameters_is_refused_with_the_difference(tmp_path: Path) -> None:
    path = write_project(tmp_path)
    plan = plan_study(path)
    record_plan(plan)
    run = stage(plan, "toy")[0]
    run.folder.mkdir(parents=True)
    (run.folder / "params.yaml").write_text(yaml.safe_dump(run.params.model_dump() | {"most_steps": 9}))
    with pytest.raises(ParameterError, match=r"belongs to another study: its `most_steps` is 9, here 7; move it away"):
        plan_study(path)


def test_the_thesis_at_mini_scale_has_no_search_of_full_size():
    """The parameters of an arm override those of its stage: the scale has to name each arm that has some."""
    file = ROOT / "params" / "studies" / "thesis" / "all.yaml"
    plan = studies.plan_study(file, scale="mini")
    searches = [run.params for run in plan.runs if isinstance(run.params, SearchParams)]
    assert max(p.epochs for p in searches) == 8
    assert {(p.limit, p.channels, p.layers) for p in searches} == {(1000, 4, 3)}


def test_at_small_scale_alpha_can_move_as_far_as_in_the_thesis():
    """Alpha's rate times the number of its steps is that of the arm at full scale (short batches aside)."""
    file = ROOT / "params" / "studies" / "thesis" / "all.yaml"
    distances: dict[str, dict[str, set[int]]] = {}
    for scale, images in (("full", 25_000), ("small", 750)):
        of_arms: dict[str, set[int]] = {}
        for run in studies.plan_study(file, scale=scale).runs:
            if isinstance(p := run.params, SearchParams) and p.method != "random":
                distance = p.alpha_learning_rate * p.epochs * images / p.batch_size
                of_arms.setdefault(run.labels["arm"], set()).add(round(100 * distance))
        distances[scale] = of_arms
    full, small = distances["full"], distances["small"]
    assert len(small) > 30 and all(reached <= full[arm] for arm, reached in small.items())
