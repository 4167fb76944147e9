"""Numbers and tables as text, the same in the terminal and on pages."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hdarts.errors import CannotWrite, ParameterError
from hdarts.runs.atomic import write_atomic


def format_value(value: Any) -> str:
    """Return a number to four digits, anything else as it is, and nothing for a missing value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"
    return str(value)


def format_column(values: list[Any]) -> list[str]:
    """Return the values of a column as text: numbers of similar size have the same number of decimals."""
    words = [format_value(value) for value in values]
    sizes = [abs(value) for value in values if isinstance(value, float) and value and math.isfinite(value)]
    decimals = max((len(word.partition(".")[2]) for word in words if "e" not in word), default=0)
    if not sizes or not decimals or not all(isinstance(value, float) for value in values):
        return words
    if max(sizes) > 1000 * min(sizes):  # the small ones would lose their digits
        return words
    decimals = min(decimals, max(0, 3 - math.floor(math.log10(max(sizes)))))
    return [word and f"{value:.{decimals}f}" for value, word in zip(values, words, strict=True)]


def format_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same columns as aligned text: numbers to the right, words to the left."""
    columns = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        words = [str(name), *map(format_value, values)]
        width = max(map(len, words))
        numbers = all(isinstance(value, int | float) for value in values)
        columns.append([(str.rjust if numbers else str.ljust)(word, width) for word in words])
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same columns as a table in Markdown, values as they are."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_output(option: str, path: Path, text: str) -> None:
    """Write the file that a command's option names; raise `ParameterError` if there can be no such file."""
    try:
        write_atomic(path, text)
    except CannotWrite:  # the disk is full or read-only
        raise
    except OSError as error:
        raise ParameterError(f"{option} {path}: cannot be written: {error.strerror or error}") from None


def replace_marked(page: Path, name: str, text: str) -> None:
    """Replace what is between the marks `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a page in Markdown."""
    begin, end = (f"<!-- {name}: {mark} -->\n" for mark in ("begin", "end"))
    old = page.read_text(encoding="utf-8") if page.is_file() else ""
    before, found, rest = old.partition(begin)
    _, last, after = rest.partition(end)
    if not (found and last):
        raise ParameterError(f"{page}: has no lines {begin.strip()} and {end.strip()} to write the table between")
    write_atomic(page, f"{before}{begin}\n{text}\n{end}{after}")
