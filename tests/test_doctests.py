"""The examples in docstrings are true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
WITH_EXAMPLES = [path for path in sorted((ROOT / "hdarts").rglob("*.py")) if ">>> " in path.read_text()]


def test_rooms_where_an_example_says_more_than_a_sentence_have_one():
    rooms = {path.relative_to(ROOT / "hdarts").parts[0].removesuffix(".py") for path in WITH_EXAMPLES}
    assert rooms >= {"hypergradient", "space", "supernet", "workbook"}


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_in_docstrings_give_what_they_say(path: Path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted > 0 and found.failed == 0
