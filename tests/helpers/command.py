"""The command `hdarts`, called in this process."""

import sys
from pathlib import Path

import pytest

from hdarts.workbook.cli import main


def called(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    """Call the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["hdarts", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 0
