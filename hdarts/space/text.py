"""The texts in which codes of DARTS publish a cell, read as literals and never run."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from hdarts.errors import ParameterError
from hdarts.space.spaces import DARTS

CALL = re.compile(r"\bGenotype\s*\(")
FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")  # of their named tuple, in order
NODES = range(DARTS.inputs, DARTS.inputs + DARTS.nodes)


def published_cells(text: str) -> dict[str, Any] | None:
    """Return `normal` and `reduce` of the one `Genotype(...)` in a text, None if there is none.

    What is around it, such as `NAME =`, comments or the prefix of a log, is ignored. The edges of a cell are
    `(operation, input)`, also grouped by node (GDAS), or `(operation, node, input)` with at most two per node
    (FairDARTS), where missing ones become `none`. Raises `ParameterError` for several different genotypes, for anything
    but literals and `range`, and for concatenations of other nodes than 2 to 5.
    """
    starts = [match.start() for match in CALL.finditer(text)]
    if not starts:
        return None
    try:
        fields = [_fields(_call(text, start)) for start in starts]
        cells = [{kind: _edges(each.get(kind, [])) for kind in DARTS.kinds} for each in fields]
    except ParameterError:
        raise
    except (ValueError, TypeError, SyntaxError, IndexError, KeyError, OverflowError, RecursionError, MemoryError):
        form = "Genotype(normal=[('operation', input), ...], normal_concat=range(2, 6), reduce=..., reduce_concat=...)"
        raise ParameterError(f"genotype: cannot be read as {form}, which has literals only") from None
    if any(each != cells[0] for each in cells):
        raise ParameterError(f"genotype: the text has {len(cells)} of them; keep the one Genotype(...) that is meant")
    return cells[0]


def _call(text: str, start: int) -> ast.Call:
    """Return the call that starts there; its end is the bracket that closes its first one."""
    depth, end = 0, start
    for end in range(start, len(text)):
        depth += (text[end] == "(") - (text[end] == ")")
        if text[end] == ")" and depth == 0:
            break
    call = ast.parse(text[start : end + 1], mode="eval").body
    if not isinstance(call, ast.Call):
        raise ValueError
    return call


def _fields(call: ast.Call) -> dict[str, Any]:
    values = dict(zip(FIELDS, map(_literal, call.args), strict=False))
    values |= {str(word.arg): _literal(word.value) for word in call.keywords}
    if unknown := [name for name in values if name not in FIELDS and values[name] is not None]:
        raise ParameterError(f"genotype: {unknown[0]} is not one of {', '.join(FIELDS)}")
    for name in ("normal_concat", "reduce_concat"):
        concat = values.get(name, NODES)
        if len(concat) != len(NODES) or sorted(concat) != list(NODES):
            raise ParameterError(f"genotype: {name} is {concat}; a cell here concatenates its four nodes, 2 to 5")
    return values


def _literal(node: ast.expr) -> Any:
    """Return a literal, or the range that `range(...)`, `list(range(...))` and the like describe."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        if node.func.id == "range":
            return range(*map(ast.literal_eval, node.args))
        if node.func.id in ("list", "tuple") and len(node.args) == 1:
            return _literal(node.args[0])
    return ast.literal_eval(node)


def _edges(cell: Sequence[Any]) -> list[Any]:
    """Return the edges as `(operation, input)`, two for each node."""
    flat = [edge for entry in cell for edge in ([entry] if isinstance(entry[0], str) else entry)]
    if not flat or any(len(edge) != 3 for edge in flat):
        return flat
    by_node: dict[int, list[Any]] = {node: [] for node in NODES}
    for operation, node, source in flat:
        if node not in by_node or len(by_node[node]) == 2:
            raise ParameterError(f"genotype: node {node} is not one of 2 to 5 with at most two edges")
        by_node[node].append((operation, source))
    for node, edges in by_node.items():
        if not edges:  # FairDARTS then concatenates fewer nodes
            raise ParameterError(f"genotype: node {node} has no edge; cells here concatenate four nodes with edges")
        edges += [("none", int(edges[0][1] == 0))] * (2 - len(edges))  # an input that the other edge does not have
    return [edge for edges in by_node.values() for edge in edges]
