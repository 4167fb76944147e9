"""A search with a button: paused and resumed it ends like an undisturbed one, bit for bit."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import IPython.display
import pytest

from hdarts.errors import ParameterError
from hdarts.params import SearchParams
from hdarts.plots.style import new_figure
from hdarts.runs.paths import with_defaults
from hdarts.runs.run import Run
from hdarts.search import search
from hdarts.workbook import live

SMALL = {"data": "generated", "limit": 160, "channels": 2, "layers": 3, "epochs": 3, "batch_size": 20}
SMALL |= {"hypernetwork": "linear", "log_every": 1}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The list of displayed objects, in a notebook that is live."""
    seen: list[Any] = []
    monkeypatch.setattr(IPython.display, "display", seen.append)
    monkeypatch.setattr(live, "interactive", lambda: True)
    return seen


async def until(condition: Callable[[], bool]) -> None:
    """Wait, as a kernel without a running cell does."""
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.002)


def test_papermill_gets_no_button(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IPython.display, "display", pytest.fail)
    live.pausable(lambda stop: [], lambda: new_figure(1.0, 1.0), 1)


def test_a_search_paused_twice_ends_like_an_undisturbed_one(
    shown: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDARTS_RUNS", str(tmp_path))
    one, other = (Run.open(with_defaults(SearchParams, {**SMALL, "run": name})) for name in ("one", "other"))
    list(search(one.params, one))  # type: ignore[arg-type]
    drawn: list[int] = []
    pauses: list[str] = []

    def panel() -> Any:
        drawn.append(len(other.table("metrics")))
        return new_figure(1.0, 1.0)

    async def cells() -> None:
        live.pausable(lambda stop: search(other.params, other, stop=stop), panel, 3)  # type: ignore[arg-type]
        (bar, picture) = shown[0].children
        button, words = bar.children
        assert button.description == "Search" and not bytes(picture.value)
        button.click()
        for epochs in (0, 1):
            await until(lambda epochs=epochs: button.description == "Pause" and len(other.table("metrics")) >= epochs)
            button.click()
            await until(lambda: button.description == "Resume")
            assert "Paused" in words.value and not other.done
            pauses.append((other.folder / "checkpoint.pt").read_bytes().hex())
            button.click()
        await until(lambda: button.disabled and button.description == "Search")
        assert "All epochs are done" in words.value and bytes(picture.value).startswith(b"\x89PNG")

    asyncio.run(cells())
    assert len(set(pauses)) == 2 and drawn[-1] == 3
    for name in ("metrics.csv", "hypergradients.csv", "alpha.csv", "genotype.json", "result.json"):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes(), name


def test_an_error_is_shown_and_the_loop_can_be_started_again(shown: list[Any]) -> None:
    def start(stop: Any) -> Any:
        raise ParameterError("the folder is in <use>")

    async def cells() -> None:
        live.pausable(start, lambda: new_figure(1.0, 1.0), 1)
        button, words = shown[0].children[0].children
        button.click()
        await until(lambda: button.description == "Resume")
        assert "ParameterError: the folder is in &lt;use&gt;" in words.value and not button.disabled

    asyncio.run(cells())
