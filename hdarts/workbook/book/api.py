"""API pages in Markdown, one per package or module directly below `hdarts`, from signatures and docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

Callable = ast.FunctionDef | ast.AsyncFunctionDef


def write_pages(package: Path, folder: Path) -> list[str]:
    """Write a page for each package and module directly below `package` into `folder`; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rooms = [path for path in sorted(package.iterdir()) if path.suffix == ".py" or (path / "__init__.py").is_file()]
    rooms = [path for path in rooms if not path.name.startswith("__")]
    for room in rooms:
        page = "\n\n".join(_room(room, f"{package.name}.{room.stem}"))
        (folder / f"{package.name}.{room.stem}.md").write_text(f"{page}\n", encoding="utf-8")
    return [f"{package.name}.{room.stem}" for room in rooms]


def _room(room: Path, name: str) -> Iterator[str]:
    """Yield the parts of the page of a package or module, from its modules in order of their paths."""
    files = [room] if room.is_file() else sorted(room.rglob("*.py"), key=lambda file: (file.parent, file.stem))
    for file in files:
        inner = [] if room.is_file() else [*file.relative_to(room).with_suffix("").parts]
        module = ".".join([name, *(part for part in inner if part != "__init__")])
        tree = ast.parse(file.read_text(encoding="utf-8"))
        parts = [*_module(tree, module, exported_by(file, name, module), file)]
        if parts or module == name:
            yield f"# {module}" if module == name else f"## {module.removeprefix(name)[1:]}"
            if exported_by(file, name, module).get(file.stem) != module.rpartition(".")[0]:  # else a function's name
                yield f"```{{py:module}} {module}\n```"
            yield markdown(ast.get_docstring(tree))
            yield from parts


def exported_by(file: Path, name: str, module: str) -> dict[str, str]:
    """Return the packages that export names of a module in their `__all__`, by these names; the outermost counts."""
    found: dict[str, str] = {}
    package, folder = module, file if file.stem == "__init__" else file.with_suffix("")
    while package != name:
        package, folder = package.rpartition(".")[0], folder.parent
        init = folder / "__init__.py"
        imports = [
            node for node in ast.parse(init.read_text(encoding="utf-8")).body if isinstance(node, ast.ImportFrom)
        ]
        found |= {one.name: package for node in imports if node.module == module for one in node.names}
    return found


def _module(tree: ast.Module, module: str, exported: dict[str, str], file: Path) -> Iterator[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    for node in tree.body:
        if isinstance(node, Callable | ast.ClassDef) and not node.name.startswith("_"):
            place = exported.get(node.name, module)
            if isinstance(node, ast.ClassDef) or ast.get_docstring(node):
                yield f"```{{py:currentmodule}} {place}\n```"
            if isinstance(node, ast.ClassDef):
                yield _class(node, lines)
            elif ast.get_docstring(node):
                yield _directive("function", _signature(node), markdown(ast.get_docstring(node)))


def _class(node: ast.ClassDef, lines: list[str]) -> str:
    """Return a class with its fields, the comment of each beside it, and its methods that have a docstring."""
    parts = [markdown(ast.get_docstring(node))]
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    for inner in node.body:
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name) and inner.target.id[0] != "_":
            comment = lines[(inner.end_lineno or 1) - 1].partition("  # ")[2]
            parts.append(_directive("attribute", _field(inner), comment, fence="`" * 4))
        elif isinstance(inner, Callable) and inner.name[0] != "_" and ast.get_docstring(inner):
            decorators = [ast.unparse(one) for one in inner.decorator_list]
            kind = "property" if "property" in decorators or "cached_property" in decorators else "method"
            signature = inner.name if kind == "property" else _signature(inner, bound="staticmethod" not in decorators)
            parts.append(_directive(kind, signature, markdown(ast.get_docstring(inner)), fence="`" * 4))
    return _directive(
        "class", f"{node.name}({bases})" if bases else node.name, "\n\n".join(filter(None, parts)), fence="`" * 5
    )


def _field(node: ast.AnnAssign) -> str:
    value = "" if node.value is None else f"\n:value: {ast.unparse(node.value)}"
    return f"{ast.unparse(node.target)}\n:type: {ast.unparse(node.annotation)}{value}"


def _signature(node: Callable, bound: bool = False) -> str:
    """Return `name(arguments) -> result`, without `self` or `cls` if `bound`."""
    arguments = ast.unparse(node.args)
    if bound:
        arguments = re.sub(r"^\w+(, /)?(, )?", "", arguments)
    result = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    return f"{node.name}({arguments}){result}"


def _directive(kind: str, signature: str, text: str, fence: str = "`" * 4) -> str:
    return f"{fence}{{py:{kind}}} {signature}\n\n{text}\n{fence}"


def markdown(docstring: str | None) -> str:
    """Return a docstring as Markdown: examples, up to the next empty line, are code and not quotations."""
    return re.sub(r"(?m)^>{3} (?:.+\n?)+", lambda found: f"```pycon\n{found[0].rstrip()}\n```\n", docstring or "")
