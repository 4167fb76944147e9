"""An extension of Sphinx: formulas as MathML, and an alternative text for every picture."""

import itertools
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

from hdarts.workbook.page.notebook import mathml


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("doctree-resolved", describe_pictures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(mathml(node.astext(), "block"))
    raise nodes.SkipNode


def describe_pictures(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Give pictures without an alternative text the caption that follows them, or else the heading above them."""
    for image in doctree.findall(nodes.image):
        if not image.get("alt"):
            image["alt"] = _caption(image) or f"Figure: {_heading(image)}"


def _caption(image: nodes.image) -> str:
    """Return the text of the paragraph after a picture, if that is all emphasis: so notebooks show captions."""
    for node in itertools.islice(image.findall(include_self=False, descend=False, siblings=True), 1):
        if isinstance(node, nodes.paragraph) and len(node) == 1 and isinstance(node[0], nodes.emphasis):
            return node.astext()
    return ""


def _heading(node: nodes.Node) -> str:
    while node is not None and not isinstance(node, nodes.section):
        node = node.parent
    return "" if node is None else node.next_node(nodes.title).astext()  # type: ignore[union-attr]
