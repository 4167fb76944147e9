"""An executed notebook as one HTML page that asks the network for nothing: formulas are MathML, not a script's work."""

import html
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from hdarts.runs.atomic import write_atomic

# JupyterLab's look without what it loads from elsewhere; a picture is described by its caption, and what is printed
# breaks between words, within one only where it is longer than a line
TEMPLATE = """
{%- extends "index.html.j2" -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}
{{- super() -}}
<style>.jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere; }</style>
{%- endblock -%}
{%- block data_png scoped -%}
{%- set alt = output | get_metadata("alt", "image/png") -%}
{{- super() | replace("<img ", '<img alt="' ~ (alt | escape) ~ '" ', 1) if alt else super() -}}
{%- endblock -%}
"""


def write_page(notebook: Path) -> None:
    """Write an executed notebook as a page of the same name beside it."""
    page, _ = _Exporter(raw_template=TEMPLATE).from_filename(str(notebook))
    write_atomic(notebook.with_suffix(".html"), page)


def mathml(formula: str, display: str) -> str:
    """Return a formula of LaTeX as MathML, `display` inline or block; as it is written where a command is unknown."""
    try:
        converted = convert(formula, display=display)
        if "\\" not in "".join(ElementTree.fromstring(converted).itertext()):
            return converted
    except Exception:  # an odd formula must not cost a run its page, and the library has many ways to refuse one
        pass
    return f"<code>{html.escape(formula)}</code>"


class _Renderer(IPythonRenderer):
    """Markdown with formulas."""

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")


class _Exporter(HTMLExporter):
    @jinja2.pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        return MarkdownWithMath(renderer=_Renderer(escape=False)).render(source)
