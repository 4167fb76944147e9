"""Convert an executed notebook to one HTML page that loads nothing: formulas are MathML, without scripts."""

import html
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jinja2
from latex2mathml.converter import convert
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from hdarts.runs.atomic import write_atomic

# JupyterLab's style without its remote files; the parameters cell is folded, what a run changed follows it; pictures
# have their captions as alternative text, and printed lines break between words, within a word only if it is longer
# than a line
TEMPLATE = """
{%- extends "index.html.j2" -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}
{{- super() -}}
<style>
.jp-OutputArea-output pre { word-break: normal; overflow-wrap: anywhere; }
.defaults summary { font: 14px var(--jp-content-font-family, sans-serif); margin-left: 74px; cursor: pointer; }
</style>
{%- endblock -%}
{%- block input_group -%}
{%- if "parameters" in cell.metadata.tags -%}
<details class="defaults"><summary>The defaults of the parameters cell</summary>{{ super() }}</details>
{%- else -%}
{{ super() }}
{%- endif -%}
{%- endblock -%}
{%- block data_png scoped -%}
{%- set alt = output | get_metadata("alt", "image/png") -%}
{{- super() | replace("<img ", '<img alt="' ~ (alt | escape) ~ '" ', 1) if alt else super() -}}
{%- endblock -%}
"""


def write_page(notebook: Path) -> None:
    """Write an executed notebook as a page of the same name next to it."""
    page, _ = _Exporter(raw_template=TEMPLATE).from_filename(str(notebook))
    write_atomic(notebook.with_suffix(".html"), page)


def mathml(formula: str, display: str) -> str:
    """Return a LaTeX formula as MathML, `display` inline or block; unchanged if it has an unknown command."""
    try:
        converted = convert(formula, display=display)
        if "\\" not in "".join(ElementTree.fromstring(converted).itertext()):
            return converted
    except Exception:  # the library raises many types, and no formula should cost a run its page
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
