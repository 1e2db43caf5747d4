"""The layers of the package, read from the syntax trees."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import genevae

ROOT = Path(genevae.__file__).parent

BASE = {"cells", "errors", "peers", "progress", "session"}
CALLS = {*BASE, "calls"}
LAYERS: dict[str, set[str]] = {
    "errors": set(),
    "cells": {"errors"},
    "session": {"errors"},
    "progress": {"session"},
    "peers": {"errors"},
    "peer_functions": {"errors", "peers"},
    "calls": {"errors", "peers", "progress", "session", "io"},
    "engine": {"errors", "io"},
    "io": {*BASE, "kernels"},
    "download": {"errors", "io", "progress"},
    "preprocessing": {*CALLS, "engine", "io", "data"},
    "data": {*BASE, "io"},
    "kernels": set(),
    "distributions": {*BASE, "kernels"},
    "nn": {*BASE, "kernels"},
    "models": {*BASE, "kernels", "distributions", "nn"},
    "objectives": {*BASE, "distributions", "nn", "models"},
    "training": {*BASE, "kernels", "io", "data", "distributions", "nn", "models", "objectives"},
    "recipes": {*BASE, "data", "distributions", "nn", "models", "objectives", "training"},
    "labelling": {"metrics"},
    "responses": {"errors", "metrics"},
    "runs": {
        *CALLS, "peer_functions", "io", "download", "preprocessing", "labelling", "responses", "tasks",
        "data", "distributions", "nn", "models", "objectives", "training", "recipes",
        "plotting",
    },
    "tasks": {*CALLS, "engine", "io", "data", "distributions", "nn", "models", "metrics", "labelling", "responses"},
    "metrics": {"errors", "peer_functions"},
    "plotting": {"errors", "metrics"},
    "report": {"errors", "metrics", "plotting", "io"},
    "evaluation": {
        *CALLS, "engine", "io", "preprocessing", "data", "distributions", "models", "training", "recipes", "runs",
        "tasks", "metrics", "responses", "plotting", "report",
    },
    "explorer": {
        *CALLS, "io", "data", "distributions", "nn", "models", "tasks", "metrics", "responses", "plotting", "report",
    },
}  # fmt: skip
"""What each folder may import; the command line may import all."""

FILES = sorted(ROOT.rglob("*.py"))


def module_of(path: Path) -> tuple[str, ...]:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, *, at_import: bool = False) -> Iterator[str]:
    """Yield the dotted names that a file imports; ``at_import`` leaves out functions and type-checking blocks."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif at_import and (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_for_types(node)):
            continue
        pending.extend(ast.iter_child_nodes(node))


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def inner(names: Iterator[str]) -> set[tuple[str, ...]]:
    return {tuple(name.split(".")[1:]) for name in names if name.startswith("genevae.")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: "/".join(module_of(path)) or "genevae")
def test_imports_point_one_way(path: Path) -> None:
    folder = (module_of(path) or ("genevae",))[0]
    if folder not in LAYERS:
        assert folder in {"genevae", "cli", "__main__"}, f"{folder} is a folder that the design does not know"
        return
    beyond = {name[0] for name in inner(imports(path))} - LAYERS[folder] - {folder}
    assert not beyond, f"{folder} may not import {beyond}"


def test_data_never_imports_torch_nn() -> None:
    offenders = [p for p in FILES if module_of(p)[:1] == ("data",) and any("torch.nn" in name for name in imports(p))]
    assert not offenders


def test_io_never_imports_torch() -> None:
    offenders = [
        p for p in FILES if module_of(p)[:1] == ("io",) and any(n.split(".")[0] == "torch" for n in imports(p))
    ]
    assert not offenders


def test_metrics_see_arrays_only() -> None:
    seen = {name.split(".")[0] for p in FILES if module_of(p)[:1] == ("metrics",) for name in imports(p)}
    assert not seen & {"torch", "anndata"}


def test_no_file_imports_itself_in_a_circle() -> None:
    modules = {module_of(path): path for path in FILES}

    def module_named(name: tuple[str, ...]) -> tuple[str, ...]:
        return name if name in modules else name[:-1]

    graph = {
        module: {module_named(name) for name in inner(imports(path, at_import=True))} - {module}
        for module, path in modules.items()
        if module  # the package itself imports lazily
    }
    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> None:
        assert module not in trail, f"an import cycle: {' → '.join('.'.join(part) for part in (*trail, module))}"
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("statement", ["import genevae", "from genevae import cells, errors, distributions"])
def test_importing_stays_light(statement: str) -> None:
    heavy = ("numba", "sklearn", "matplotlib", "anndata", "scanpy", "pandas", "scipy", "h5py", "zarr")
    code = f"import sys; {statement}; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_public_name_can_be_imported() -> None:
    assert genevae.__all__ == sorted(dir(genevae))
    for name in genevae.__all__:
        assert getattr(genevae, name) is not None


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "torch.load(" not in text, path
        assert "pickle.load" not in text, path
        assert "allow_pickle=True" not in text, path


def test_no_module_hides_a_public_name():
    modules = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert modules & set(genevae.__all__) == {"metrics"}, "importing a module puts it in the place of the name"
