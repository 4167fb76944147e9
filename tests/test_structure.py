"""Structure of the repository: layers, a lean core, short functions, stripped notebooks, valid parameter files."""

import ast
import importlib.metadata as metadata
import io
import json
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from importlinter.cli import lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from papermill.inspection import inspect_notebook

from hdarts.params import MODELS, EvaluateParams, SearchParams, check, notebook_defaults, read_yaml
from hdarts.params.describe import documentation
from hdarts.space import Genotype
from hdarts.workbook.claims import CLAIMS
from hdarts.workbook.study import plan_study
from tests.mistakes import NAMED, PARTS

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "hdarts").rglob("*.py"))
TESTS = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
PRESETS = sorted(path for path in (ROOT / "params").glob("*/*.yaml") if path.parent.name in ("search", "evaluate"))
STUDIES = sorted((ROOT / "params" / "studies").glob("*.yaml"))
EXPERIMENTS = sorted(path for path in (ROOT / "params/studies/thesis").glob("*.yaml") if path.stem != "common")
STORED = [*NOTEBOOKS, *SOLUTIONS]
TEXTS = [*SOURCES, *STORED, *(ROOT / "params").rglob("*.*"), *(ROOT / "tests").rglob("*.py"), ROOT / "README.md"]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "results").glob("*/*.md")]

every_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
and_solutions = pytest.mark.parametrize("path", STORED, ids=lambda path: f"{path.parent.name}-{path.stem}")


# --- imports ---------------------------------------------------------------------------------------------------------


def core() -> list[str]:
    """Return the packages of the core, from the contract of import-linter."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    return next(contract["source_modules"] for contract in config["contracts"] if contract["type"] == "forbidden")


def test_imports_point_down_and_have_no_circles(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert lint_imports("pyproject.toml", no_cache=True) == 0, capsys.readouterr().out


def python(program: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_itself_imports_nothing_but_the_standard_library():
    loaded = json.loads(
        python("import sys, json; old = set(sys.modules); import hdarts; print(json.dumps([*set(sys.modules) - old]))")
    )
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert foreign == {"hdarts"}


BARE = ["torch", "torchvision", "numpy", "pandas", "pyarrow", "pillow", "pyyaml", "scipy", "scikit-learn", "pydantic"]


def not_on_a_bare_host() -> set[str]:
    """Return importable names that are installed here but not on a bare GPU host."""
    there, todo = set(), list(BARE)
    while todo:
        name = canonicalize_name(todo.pop())
        if name in there:
            continue
        there.add(name)
        try:
            requirements = [Requirement(text) for text in metadata.requires(name) or []]
        except metadata.PackageNotFoundError:  # a requirement of another platform
            continue
        todo += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    owners = metadata.packages_distributions()
    return {top for top, packages in owners.items() if not there & {canonicalize_name(name) for name in packages}}


CORE_ALONE = """
import importlib, json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent, modules = map(json.loads, sys.argv[1:])
sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
"""


def test_the_core_imports_on_a_host_without_notebooks_and_plots():
    absent = not_on_a_bare_host() - {"hdarts"}
    assert absent >= {"papermill", "jupyter_core", "IPython", "seaborn", "matplotlib", "nbformat"}
    rooms = {f"hdarts.{path.relative_to(ROOT / 'hdarts').parts[0].removesuffix('.py')}" for path in SOURCES}
    assert set(core()) == rooms - {"hdarts.__init__", "hdarts.__main__", "hdarts.plots", "hdarts.workbook"}
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]
    below = [name for name in modules if any(f"{name}.".startswith(f"{room}.") for room in core())]
    python(CORE_ALONE, json.dumps(sorted(absent | {"dask"})), json.dumps(below))


RANDOM = """
from hdarts import params, search
from hdarts.runs.device import use_machine
from hdarts.runs.paths import with_defaults
use_machine(with_defaults(params.SearchParams, {}))
"""


@pytest.mark.parametrize(
    ("start", "unused"),
    [
        ("import hdarts.workbook.cli", {"numpy", "pandas", "pydantic", "torch", "psutil"}),
        ("import hdarts.workbook.commands", {"numpy", "pandas", "torch", "jinja2", "nbconvert"}),
        (
            "import hdarts.workbook.commands, hdarts.workbook.analysis.selection, hdarts.plots",
            {"torch", "scipy.optimize", "scipy.stats", "seaborn"},
        ),
        ("import hdarts.workbook.study.run_notebook, hdarts.workbook.page.notebook", {"torch", "pandas"}),
        (RANDOM, {"torch._dynamo", "torchvision", "sklearn", "scipy.stats", "scipy.optimize", "matplotlib"}),
    ],
    ids=["help", "status", "the command, selecting, drawing", "a run's process", "a search that computes nothing"],
)
def test_a_start_imports_nothing_that_it_does_not_use(start, unused):
    loaded = json.loads(python(f"{start}\nimport json, sys\nprint(json.dumps([*sys.modules]))"))
    assert not unused & set(loaded)


# --- size and words --------------------------------------------------------------------------------------------------


def functions(source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


@every_source
def test_functions_have_at_most_sixty_lines_and_files_three_hundred_and_fifty(path: Path):
    assert [(name, lines) for name, lines in functions(path.read_text()) if lines > 60] == []
    assert len(path.read_text().splitlines()) <= 350


def code_lines(source: str) -> int:
    """Count the lines of code, without blank lines, comments and docstrings."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in layout]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)


def test_the_core_has_at_most_8900_lines_of_code():
    rooms = {room.removeprefix("hdarts.") for room in core()}
    files = [path for path in SOURCES if path.relative_to(ROOT / "hdarts").parts[0].removesuffix(".py") in rooms]
    assert 1000 < sum(code_lines(path.read_text()) for path in files) <= 8900


@every_source
def test_nothing_is_read_with_pickle_or_eval(path: Path):
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
    assert called.isdisjoint({"eval", "exec", "pickle.load", "pickle.loads", "yaml.load", "np.load", "pd.read_pickle"})
    text = path.read_text()
    assert text.count("torch.load(") == text.count("weights_only=True")


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_left_to_do(path: Path):
    marks = "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "Not" + "ImplementedError"))
    assert re.findall(rf"\b({marks})\b", path.read_text()) == []


# --- notebooks -------------------------------------------------------------------------------------------------------


def test_there_is_a_notebook_for_each_model_and_no_other():
    assert [path.stem for path in NOTEBOOKS] == sorted(MODELS)


@and_solutions
def test_notebooks_are_stripped(path: Path):
    notebook = json.loads(path.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert set(cell["metadata"]) <= {"tags"}


@and_solutions
def test_lines_of_notebooks_have_at_most_120_characters(path: Path):
    cells = json.loads(path.read_text())["cells"]
    assert [line for cell in cells for line in "".join(cell["source"]).splitlines() if len(line) > 120] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_of_pages_have_at_most_120_characters_except_tables_and_pictures(path: Path):
    lines = path.read_text().splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(("|", "![", "<img"))] == []


@pytest.mark.parametrize(
    "path", [page for page in PAGES if page.stem not in ("CHANGELOG", "extending")], ids=lambda path: path.name
)
def test_files_functions_and_lines_that_pages_name_exist(path: Path):
    folders = "hdarts|tests|benchmarks|notebooks|params|results|docs"
    for file, name in re.findall(rf"`((?:{folders})/[\w./-]+)(?:: (\w+))?`", path.read_text()):
        assert (ROOT / file).exists(), file
        assert not name or re.search(rf"\b(def|class) {name}\b", (ROOT / file).read_text()), f"{file}: {name}"
    lines = re.findall(r"\*\*The line [^*]*?`([^`]+)`\.\*\*", path.read_text())
    assert [line for line in lines if not any(line.split("...")[0] in source.read_text() for source in SOURCES)] == []
    assert set(re.findall(r"\b\w+\.py\b", path.read_text())) <= {source.name for source in SOURCES + TESTS}


@and_solutions
def test_notebooks_are_made_of_short_cells_without_classes_and_long_functions(path: Path):
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
            assert len(source.splitlines()) <= 15, source
            assert "class " not in source
            assert [name for name, lines in functions(source) if lines > 5] == []


@every_notebook
def test_a_parameters_cell_has_the_names_without_a_default_allowed_values_and_comments(path: Path):
    model, defaults = MODELS[path.stem], notebook_defaults(path)
    assert {name for name, field in model.model_fields.items() if field.is_required()} <= set(defaults)
    check(model, defaults)
    cells = json.loads(path.read_text())["cells"]
    (place,) = [i for i, cell in enumerate(cells) if "parameters" in cell["metadata"].get("tags", [])]
    assert place == 1
    lines = "".join(cells[place]["source"]).splitlines()
    assert len(lines) <= 13
    for line in lines:
        assert "#" in line, line


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model in (SearchParams, EvaluateParams)])
def test_parameters_are_documented_in_their_model_and_the_cell_says_the_same(name: str):
    texts = documentation(MODELS[name])
    assert texts.keys() == MODELS[name].model_fields.keys()
    assert all(texts.values())
    (source,) = ("".join(c["source"]) for c in cells_of(name) if "parameters" in c["metadata"].get("tags", []))
    comments = dict(re.findall(r"^(\w+) = .*?  # ([^;\n]*)", source, re.MULTILINE))
    for parameter in comments.keys() & texts.keys():
        assert texts[parameter].startswith(comments[parameter].strip()), parameter


def cells_of(name: str) -> list[dict[str, Any]]:
    return json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text())["cells"]


@every_notebook
def test_papermill_reads_a_parameters_cell_as_we_do(path: Path):
    """A comment with `=` would hide a name from papermill, which then warns of an unknown parameter."""
    found = inspect_notebook(str(path))
    values = {name: ast.literal_eval(entry["default"]) for name, entry in found.items()}
    assert values.pop("preset", "") == ""
    assert values == notebook_defaults(path)
    assert {entry["inferred_type_name"] for entry in found.values()} == {"None"}
    assert all(entry["help"] for entry in found.values())


@every_notebook
def test_no_cell_after_the_parameters_cell_assigns_a_parameter(path: Path):
    """Otherwise the cells after it could not be run again."""
    parameters, *cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert "parameters" in parameters["metadata"]["tags"]
    for cell in cells:
        assert not assigned("".join(cell["source"])) & set(MODELS[path.stem].model_fields)


def assigned(source: str) -> set[str]:
    """Return all names that a program binds, in functions too, except arguments."""
    nodes = list(ast.walk(ast.parse(source)))
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del)}
    names |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return names | {alias.asname or alias.name for alias in nodes if isinstance(alias, ast.alias)}


# --- parameter files -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: str(path.relative_to(ROOT)))
def test_presets_have_allowed_parameters_of_their_stage(path: Path):
    (name,) = [name for name, model in MODELS.items() if model.stage == path.parent.name]
    check(MODELS[name], {**notebook_defaults(ROOT / "notebooks" / f"{name}.ipynb"), **read_yaml(path)})


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_studies_expand_without_error(path: Path, tmp_path, monkeypatch):
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    plan = plan_study(path)
    assert plan.runs
    assert plan.study.study == path.stem
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", ["full", "mini", "small"])
def test_experiments_of_the_thesis_are_parts_of_one_study_at_every_scale(scale: str):
    plans = {path.stem: plan_study(path, scale=scale) for path in EXPERIMENTS}
    shared = {run.name for run in plans["all"].runs if run.stage == "search"}
    for plan in plans.values():
        assert plan.study.study == {"full": "thesis"}.get(scale, f"thesis-{scale}")
        searches = [run for run in plan.runs if run.stage == "search"]
        assert {run.name for run in searches} <= shared
        assert all(run.params.data == "cifar10" for run in searches)  # type: ignore[attr-defined]


def test_every_arm_that_a_claim_names_is_searched_in_a_study():
    """Of the thesis or, for claims on cells and on combinations, of NAS-Bench-201."""
    studies = ("thesis/all", "nasbench201")
    arms = {run.labels.get("arm") for name in studies for run in plan_study(ROOT / f"params/studies/{name}.yaml").runs}
    rules = [claim.rule.keywords for claim in CLAIMS]
    named = {arm for rule in rules for arm in (*rule.get("arms", ()), *([rule["arm"]] if "arm" in rule else ()))}
    assert len(named) > 15 and named <= arms


def test_presets_and_studies_exist():
    presets = {str(path.relative_to(ROOT / "params")) for path in PRESETS}
    arms = ("darts-first", "darts-second", "hyperdarts-1", "hyperdarts-2", "random")
    assert presets >= {f"search/{arm}.yaml" for arm in arms}
    assert {path.stem for path in STUDIES} >= {"quick", "tiny", "cifar10-mini"}


@pytest.mark.parametrize("path", sorted((ROOT / "params/genotypes").glob("*.[jt]*")), ids=lambda path: path.stem)
def test_genotypes_are_cells_of_the_space_that_are_evaluated_side_by_side(path: Path):
    genotype = Genotype.from_text(path.read_text())
    assert path.suffix == ".txt" or genotype.to_json() == path.read_text()
    assert f"`{path.name}`" in (path.parent / "README.md").read_text()
    study = (ROOT / "params/studies/published-cells.yaml").read_text()
    assert f"params/genotypes/{path.name}}}" in study or "imagenet" in path.name


def test_the_text_that_each_mistake_replaces_occurs_once():
    for name, (file, text, *_) in (NAMED | PARTS).items():
        assert (ROOT / "hdarts" / file).read_text(encoding="utf-8").count(text) == 1, f"adapt mistake {name!r}"
