"""A table of parameters for a notebook: their values, those of a preset, and what each one is."""

import html
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from hdarts.params.base import Parameters


def documentation(model: type[Parameters]) -> dict[str, str]:
    """Return what each field is: the comment behind it or on the line above it, and the values of a `Literal`."""
    texts: dict[str, str] = {}
    for cls in (cls for cls in model.__mro__ if issubclass(cls, BaseModel) and cls is not BaseModel):
        above = ""
        for line in inspect.getsource(cls).splitlines():
            found = re.match(r"    (\w+): .*?(?:  # (.*))?$", line)
            if found and found[1] in model.model_fields:
                kind = model.model_fields[found[1]].annotation
                values = f" ({' | '.join(map(str, get_args(kind)))})" if get_origin(kind) is Literal else ""
                texts.setdefault(found[1], (found[2] or above) + values)
            above = line.strip()[2:] if line.startswith("    # ") else ""
    return texts


@dataclass(frozen=True)
class Description:
    """What `describe` returns: rows of a mark, a name, two values, a text; only HTML has those without mark."""

    title: str
    other: str  # what the second value is
    rows: Sequence[tuple[str, ...]]

    def __repr__(self) -> str:
        lines = [f"{row[1]} = {row[2]} ({self.other} {row[3]}): {row[4]}" for row in self.rows if row[0]]
        return "\n".join([self.title, *lines])

    def _repr_html_(self) -> str:
        def table(rows: Sequence[tuple[str, ...]]) -> str:
            head = "".join(f"<th {left}>{word}</th>" for word in ("", "parameter", "value", self.other, "what it is"))
            cells = ("".join(f"<td {left}>{html.escape(text)}</td>" for text in row) for row in rows)
            return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"

        left = 'style="text-align: left"'
        marked = [row for row in self.rows if row[0]]
        short = table(marked) if marked else ""
        folded = f"<details><summary>All {len(self.rows)} parameters</summary>{table(self.rows)}</details>"
        return f"<p>{html.escape(self.title)}</p>{short}{folded}"


def describe(params: Parameters, other: Parameters, preset: str = "") -> Description:
    """Return a table that marks what differs from `other`: the preset of that name, "" for the defaults."""
    mine, others, texts = params.model_dump(), other.model_dump(), documentation(type(params))
    rows = [("≠" * (mine[n] != others[n]), n, repr(mine[n]), repr(others[n]), text) for n, text in texts.items()]
    count = sum(bool(mark) for mark, *_ in rows)
    title = f"Parameters that differ (≠) from {f'the preset {preset}' if preset else 'the defaults'}: {count}."
    return Description(title, "preset" if preset else "default", rows)
