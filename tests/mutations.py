"""Mutations of the source, and the test that catches each: `make soak`, or `python tests/mutations.py [SEED [COUNT]]`.

First the mistakes in `NAMED`, one by one, each of which a search against the plain search must catch, and those in
`PARTS`, each of which the named search by a relative of DARTS must catch. Then COUNT random
changes of one operator, number, argument, condition or statement in each room of `ROOMS`, against the tests of that
room: those that survive are equivalent, or superfluous code, or show that a test is missing. Both are applied to a copy
of the source tree; the tests run in a fork of this process, which has imported the large libraries already.
"""

import ast
import itertools
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis  # noqa: F401
import pandas  # noqa: F401
import pytest
import scipy.optimize
import scipy.sparse.linalg  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401
import torchvision  # noqa: F401
from helpers import ROOT
from mistakes import NAMED, PARTS

PLAIN = "tests/search/test_against_plain_search.py"
RELATIVES = "tests/search/test_against_plain_relatives.py"
LIMIT = 900  # seconds for the tests of one mutation
ROOMS = {
    "search": [PLAIN, RELATIVES, "tests/search"],
    "hypergradient": [f"tests/hypergradient/test_{name}.py" for name in ("unrolling", "implicit", "hypergradient")],
    "train": ["tests/train/test_train.py", "tests/train"],
    "data": ["tests/data/test_batches.py", "tests/data"],
}
SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Add,
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.USub: ast.UAdd,
}  # fmt: skip
SECONDS = itertools.count(10**9)
UNSEEN = {"annotation", "returns", "decorator_list"}  # fields that no test can see


def nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that may change: not those of types, error messages and texts."""
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in UNSEEN and not isinstance(child, ast.Raise | ast.JoinedStr):
                yield from nodes(child)


def changes(tree: ast.AST) -> Iterator[tuple[int, Callable[[], None]]]:
    """Yield the line of each possible change, and a function that makes it."""
    for node in nodes(tree):
        line, made = getattr(node, "lineno", 0), []
        match node:
            case ast.BinOp() | ast.BoolOp() | ast.UnaryOp() | ast.AugAssign() if type(node.op) in SWAPPED:
                made = [lambda n=node: setattr(n, "op", SWAPPED[type(n.op)]())]
            case ast.Compare():
                made = [lambda n=node: setattr(n, "ops", [SWAPPED[type(n.ops[0])](), *n.ops[1:]])]
            case ast.Constant(value=bool(value)):
                made = [lambda n=node, value=value: setattr(n, "value", not value)]
            case ast.Constant(value=int() | float() as value):
                made = [lambda n=node, value=value: setattr(n, "value", value + 1)]
            case ast.If() | ast.IfExp():
                made = [lambda n=node: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))]
            case ast.Expr(value=ast.Call()):
                made = [lambda n=node: setattr(n, "value", ast.Constant(None))]
            case ast.Call(keywords=keywords):
                made = [lambda of=keywords, word=word: of.remove(word) for word in keywords]
        yield from ((line, change) for change in made)


def drawn(copy: Path, room: str, count: int, draw: random.Random) -> Iterator[tuple[str, str, str]]:
    """Yield name, file and text of `count` random mutations of a room."""
    files = {path: path.read_text(encoding="utf-8") for path in sorted((copy / "hdarts" / room).glob("*.py"))}
    places = [(path, i) for path, text in files.items() for i, _ in enumerate(changes(ast.parse(text)))]
    for path, i in draw.sample(places, count):
        tree = ast.parse(files[path])
        line, change = list(changes(tree))[i]
        before = ast.unparse(ast.parse(files[path])).splitlines()
        change()
        after = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
        old, new = next((a, b) for a, b in zip(before, after, strict=False) if a != b)
        same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
        start = max(same - 40, 0)
        name = " -> ".join(f"`{text[start : start + 70].strip()}`" for text in (old, new))
        yield f"{room}/{path.name}:{line} {name}", f"{room}/{path.name}", "\n".join(after)


def copy_sources(copy: Path) -> None:
    """Copy the source tree without what was installed, computed or built."""

    def unused(folder: str, names: list[str]) -> set[str]:
        built = {"__pycache__", *(name for name in names if name.endswith(".egg-info"))}
        return built | {".git", ".venv", "runs", "results", "build"} if Path(folder) == ROOT else built

    shutil.copytree(ROOT, copy, ignore=unused, symlinks=True)


def caught_by(copy: Path, tests: list[str]) -> str:
    """Run tests on the copy until one fails; return its name, or "" if none does."""
    log, end = copy / "tests.log", time.monotonic() + LIMIT
    if not (pid := os.fork()):
        run_tests(copy, log, tests)
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = log.read_text(encoding="utf-8", errors="replace")
    failed = re.search(r"^(?:FAILED|ERROR) (?:tests/)?(.+?)(?: - .*)?$", text, re.MULTILINE)
    if code in (1, 2) and failed:
        return failed[1]
    return "" if code == 0 else f"exit code {code}" if code >= 0 else "time limit"


def run_tests(copy: Path, log: Path, tests: list[str]) -> None:
    """Run tests in this process, a fork, on the packages of the copy, and exit."""
    code = 99
    try:
        os.setsid()
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(copy)
        sys.path[:0] = [str(copy), str(copy / "tests")]
        os.environ["PYTHONPATH"] = f"{copy}:{copy}/tests"
        for name in [name for name in sys.modules if name.partition(".")[0] in ("hdarts", "helpers", "benchmarks")]:
            del sys.modules[name]
        loaded = "ignore::pytest.PytestAssertRewriteWarning"  # hypothesis has been imported
        code = pytest.main(["-x", "-q", "-W", loaded, "-p", "no:cacheprovider", "--tb=short", *tests])
        used = [str(module.__file__) for name, module in sys.modules.items() if name.partition(".")[0] == "hdarts"]
        if foreign := [file for file in used if not file.startswith(str(copy))]:
            print("not of the copy:", foreign)
            code = 98
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def tried(copy: Path, file: str, text: str, tests: list[str]) -> str:
    """Return the test that catches a mutation of a file, or ""."""
    path = copy / "hdarts" / file
    whole = path.read_text(encoding="utf-8")
    try:
        write(path, text)
        return caught_by(copy, tests)
    finally:
        write(path, whole)


def write(path: Path, text: str) -> None:
    """Write a file with a time that no other version has, so that Python compiles it again."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (second := next(SECONDS), second))


def one_search(of: str) -> str:
    """Return the name of the test of a search, or of a whole search, by a relative of DARTS."""
    whole = f"{RELATIVES}::test_a_whole_search_is_that_of_{of}"
    return whole if of in ("p_darts", "dots") else f"{RELATIVES}::test_a_search_is_that_of_the_paper[{of}]"


def main() -> None:
    """Print a table of mutations and the tests that caught them; exit with 1 if a named one survived."""
    seed, count = (int(word) for word in (sys.argv[1:] + ["0", "8"][len(sys.argv) - 1 :])[:2])
    survived = 0
    with tempfile.TemporaryDirectory(prefix="hdarts-mutations-") as folder:
        copy = Path(folder) / "hdarts"
        copy_sources(copy)
        if failed := caught_by(copy, [PLAIN, RELATIVES]):
            sys.exit(f"{failed} fails without a mutation:\n{(copy / 'tests.log').read_text(encoding='utf-8')}")
        print("| mutation | caught by |\n| --- | --- |", flush=True)
        named = {name: (*mistake, [PLAIN]) for name, mistake in NAMED.items()}
        named |= {name: (*mistake, [one_search(of)]) for name, (*mistake, of) in PARTS.items()}
        for name, (file, old, new, tests) in named.items():
            text = (copy / "hdarts" / file).read_text(encoding="utf-8")
            assert text.count(old) == 1, f"{name}: the text {old!r} is not once in {file}; adapt the mutation"
            caught = tried(copy, file, text.replace(old, new), tests)
            survived += not caught
            print(f"| {name} | {caught or '**survived**'} |", flush=True)
        for room, tests in ROOMS.items():
            for name, file, text in drawn(copy, room, count, random.Random(f"{seed} {room}")):
                print(f"| {name} | {tried(copy, file, text, tests) or '**survived**'} |", flush=True)
    sys.exit(survived > 0)


if __name__ == "__main__":
    main()
