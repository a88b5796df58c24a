"""The house: every import points down, file by file, and the core is small and stands alone."""

import ast
import graphlib
import shutil
import subprocess
import sys
from pathlib import Path

import tinygrad_vae as tg

ROOT = Path(tg.__file__).parent
FILES = {
    ".".join(("tinygrad_vae", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(module):
    """Return the modules of the package that a file imports, inside functions and for types too."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            stem = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{stem}.{alias.name}" if f"{stem}.{alias.name}" in FILES else stem for alias in node.names}
    return {name for name in found if name in FILES and name != module}


def test_no_file_imports_itself_over_others():
    graphlib.TopologicalSorter({module: imports(module) for module in FILES}).prepare()  # raises with the circle


def test_the_core_imports_nothing_else_of_the_library():
    core = {module for module in FILES if module.startswith("tinygrad_vae.core")}
    assert len(core) > 5
    for module in core:
        assert imports(module) <= core


def test_the_core_is_read_in_one_sitting():
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "core").glob("*.py")) <= 1000


ALONE = """
import sys
from dataclasses import dataclass
import numpy as np
from core import BlockedGradientError, NORMAL, Op, Tensor, add, draw, gradients, new_noise, noise, reparameterize

multiply = Op(lambda x, y, /: x * y, [lambda g, z, x, y: multiply(g, y),
                                      lambda g, z, x, y: multiply(g, x)], elementwise=True)

@dataclass(frozen=True)
class Normal:
    loc: object
    scale: object
    path = "explicit"
    def transform(self, noise):
        return add(self.loc, multiply(self.scale, noise))

mu = Tensor(np.full(3, 2.0), "mu")
z = draw(Normal(mu, 1.0), new_noise(noise(0), NORMAL, (3,), np.float64, ()), "z")
cost = multiply(z, z)
try:
    gradients(cost, mu, cotangent=np.ones(3))
except BlockedGradientError as error:
    print(error)
opened = reparameterize(cost)
assert (opened.value == cost.value).all()
assert (gradients(opened, mu, cotangent=np.ones(3)) == 2 * z.value).all()
recorded = gradients(opened, mu, cotangent=np.ones(3), record=True)
assert (gradients(recorded, mu, cotangent=np.ones(3)) == 2).all()
assert not any(name.startswith("tinygrad_vae") for name in sys.modules)
"""


def test_the_core_works_alone_and_refuses_a_blocked_gradient_in_plain_words(tmp_path):
    shutil.copytree(ROOT / "core", tmp_path / "core")
    found = subprocess.run([sys.executable, "-c", ALONE], cwd=tmp_path, env={"PYTHONPATH": ""}, capture_output=True)
    assert found.returncode == 0, found.stderr.decode()
    words = found.stdout.decode()
    assert "Sample" in words
    assert "'z'" in words
    assert "has a value and no derivative" in words


def test_what_takes_long_to_import_is_imported_when_it_is_used():
    code = "import sys, tinygrad_vae.app.cli; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert "numpy" in loaded
    assert not loaded & {"scipy.special", "sklearn", "matplotlib", "numba", "rich", "http.client"}
