"""Progress in a terminal, a notebook and a log; interactive only in a notebook that someone uses."""

import io
import sys
import types
from collections.abc import Iterator

import pytest

from hdarts.runs import progress as module
from hdarts.runs.progress import interactive, place, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def pretend_kernel(monkeypatch: pytest.MonkeyPatch, allow_stdin: bool) -> None:
    """Pretend that this is a kernel whose cell was sent by JupyterLab (`allow_stdin`) or papermill."""
    parent = {"content": {"allow_stdin": allow_stdin}}
    shell = types.SimpleNamespace(kernel=object(), get_parent=lambda: parent)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HDARTS_PROGRESS", raising=False)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)


def test_a_pipe_is_a_log_and_a_tty_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place() == "log"
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert place() == "terminal" and not interactive()


def test_a_notebook_is_interactive_only_where_someone_could_type(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_kernel(monkeypatch, allow_stdin=True)
    assert place() == "notebook" and interactive()
    pretend_kernel(monkeypatch, allow_stdin=False)
    assert place() == "log" and not interactive()


def test_the_environment_variable_has_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_kernel(monkeypatch, allow_stdin=True)
    monkeypatch.setenv("HDARTS_PROGRESS", "log")
    assert place() == "log" and not interactive()


def ticking(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Replace the clock by one that advances by `seconds` at each reading."""
    clock = iter(range(10**6))
    monkeypatch.setattr(module.time, "monotonic", lambda: seconds * next(clock))


def test_a_log_gets_occasional_lines_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    ticking(monkeypatch, 4.0)
    assert list(progress(range(10), label="epochs")) == list(range(10))
    text = capsys.readouterr().err
    assert text.splitlines() == [
        "epochs: 4/10 in 16 s, about 24 s left",
        "epochs: 8/10 in 32 s, about 8 s left",
        "epochs: 10/10 in 44 s",
    ]
    assert "\r" not in text


def test_a_fast_loop_prints_one_line(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    ticking(monkeypatch, 0.001)
    assert len(list(progress(range(1000)))) == 1000
    assert capsys.readouterr().err == "progress: 1000/1000 in 1 s\n"


def test_items_without_a_length_are_counted(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    ticking(monkeypatch, 0.001)
    assert list(progress(iter("ab"), label="runs")) == ["a", "b"]
    assert list(progress(iter("ab"), 2, "runs")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines() == ["runs: 2 in 0 s", "runs: 2/2 in 0 s"]


def test_a_loop_that_is_left_early_closes_its_items(capsys) -> None:
    closed = []

    def items() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    source = items()
    watched = progress(source, 9)
    next(watched)
    del watched, source
    assert closed == [True] and capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(progress("abc", label="epochs")) == ["a", "b", "c"]
    assert "epochs: 100%" in screen.getvalue() and "3/3" in screen.getvalue()
