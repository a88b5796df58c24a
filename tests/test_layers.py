"""The order of the layers: an import points down, or sideways inside its own package, never up."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_vae as tg

ROOT = Path(tg.__file__).parent
ORDER = [
    ("trees", "extras", "places"),
    ("arrays",),
    ("domains",),
    ("graph",),
    ("ops",),
    ("calculus", "plan", "trouble"),
    ("stochastic",),
    ("nn", "optim"),
    ("vae",),
    ("checks", "testing", "textbook"),
    ("checks_stochastic",),
    ("data", "checkpoint", "lock"),
    ("config",),
    ("draw", "plots"),
    ("train",),
    ("cli_estimators",),
    ("cli",),
    ("__main__", "__init__"),
]
LAYER = {name: i for i, names in enumerate(ORDER) for name in names}


def _place(parts: tuple[str, ...]) -> str:
    return parts[0] if parts else "__init__"


def _imports(path: Path):
    """Yield the part of the package that each import statement of a file points to, lazy ones included."""
    here = path.relative_to(ROOT).with_suffix("").parts
    package = here[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = node.module.split(".") if node.module else []
            targets = [(*base, *names)] if names else [(*base, alias.name) for alias in node.names]
            yield from ((node.lineno, _place(target)) for target in targets)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tinygrad_vae"):
            yield node.lineno, _place(tuple(node.module.split(".")[1:]))


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = _place(path.relative_to(ROOT).with_suffix("").parts)
    assert here in LAYER, f"{path} belongs to no layer: give {here} a place in ORDER"
    for line, target in _imports(path):
        if target == here:
            continue
        assert LAYER.get(target, -1) < LAYER[here], f"{path}:{line}: {here} must not import {target}"


def test_only_one_file_names_cupy():
    naming = [p for p in ROOT.rglob("*.py") if "import cupy" in p.read_text() or '"cupy' in p.read_text()]
    assert naming == [ROOT / "arrays.py"]


def test_importing_the_library_needs_none_of_the_extras():
    extras = ("matplotlib", "sklearn", "rich", "safetensors", "hypothesis", "torch")
    code = f"import sys, tinygrad_vae; print([m for m in {extras} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_opens_with_what_it_is_for_and_what_it_may_know(path):
    what, _, then = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).partition("\n\n")
    opening = f"{what} {then.partition(chr(10) * 2)[0]}"
    assert what.endswith(".")
    if path != ROOT / "__init__.py":
        assert re.search(r"\b(knows?|imports?|elsewhere)\b", opening), f"{path}: say what it may know"
