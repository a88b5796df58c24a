"""The lessons of the course: each runs, opens as a notebook, names what exists, and fails on a wrong gradient."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from broken_assertions import run_with_broken_assertions

import tinygrad_vae as tg

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
PLOTTED = LESSONS[1:]
"""The lessons that save figures; the first one draws a graph."""

AS_NOTEBOOKS = "why_backprop_stops", "silently_wrong", "add_your_own"
"""One that draws a graph, one that prints lines of the user's code, and one that declares ops."""

MEASURED = [
    path for path in PLOTTED if path.stem[3:] not in ("what_a_vae_is", "the_linear_vae", "digits", "the_typical_set")
]
"""The lessons that hold gradients against their theory. The others train, and forgive a gradient of another length."""


FOLDED = '# %% jupyter={"source_hidden": true}'
"""The head of a cell whose code a notebook folds away: imports, pictures, answers."""


def _docstring(path):
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    """Run a lesson in this process, with its pictures in a folder of its own; what it declares is forgotten."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    registries = [(registry, dict(registry)) for registry in (tg.OPS, tg.DISTRIBUTIONS, tg.ESTIMATORS)]

    def run_lesson(path, *arguments, run=lambda path: runpy.run_path(str(path), run_name="__main__")):
        monkeypatch.setattr("sys.argv", [str(path), *map(str, arguments)])
        with matplotlib.rc_context():
            try:
                return run(path)
            finally:
                plt.close("all")

    yield run_lesson
    for registry, before in registries:
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_and_saves_its_pictures_where_it_is_run(path, lesson, tmp_path, capsys):
    lesson(path)
    printed = capsys.readouterr().out
    figures = {file.name for file in (tmp_path / "figures").iterdir()}
    assert figures == set(re.findall(r"``(?:figures/)?([\w]+\.(?:png|svg|html))``", _docstring(path)))
    assert [file.name for file in tmp_path.iterdir()] == ["figures"]
    assert [name for name in figures if f"figures/{name}" not in printed] == [], "a lesson prints where its picture is"


def test_the_picture_of_the_readme_is_the_first_lesson_s(lesson, tmp_path):
    lesson(LESSONS[0], tmp_path / "again.svg")
    saved = (LESSONS[0].parent / "why_backprop_stops.svg").read_text(encoding="utf-8")
    assert (tmp_path / "again.svg").read_text(encoding="utf-8") == saved


def test_the_lessons_are_numbered_without_a_gap_and_linked_in_the_readme():
    assert [int(path.stem[:2]) for path in LESSONS] == list(range(1, len(LESSONS) + 1))
    linked = set(re.findall(r"\(examples/(\d\d_\w+\.py)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert linked == {path.name for path in LESSONS}
    for path in LESSONS:
        assert f"# # {int(path.stem[:2])}. " in path.read_text(encoding="utf-8"), "a title with another number"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_is_cut_into_cells_of_whole_statements(path):
    head, *cells = re.split(r"^(?=# %%)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not head, "a notebook would show what stands before the first cell as code"
    kinds = [cell.partition("\n")[0] for cell in cells]
    assert {"# %%", "# %% [markdown]"} <= set(kinds) <= {"# %%", "# %% [markdown]", FOLDED}
    trees = [ast.parse(cell) for cell in cells]  # a cell holds whole statements
    assert [bool(ast.get_docstring(tree)) for tree in trees].index(True) == 1, "the docstring is a text below the title"
    for kind, tree in zip(kinds[2:], trees[2:], strict=True):
        assert bool(tree.body) == (kind != "# %% [markdown]"), ast.unparse(tree)


@pytest.mark.filterwarnings("ignore")  # those of Jupyter; a lesson's own are errors where it runs as a script
@pytest.mark.parametrize(
    "path",
    [p if p.stem[3:] in AS_NOTEBOOKS else pytest.param(p, marks=pytest.mark.long) for p in LESSONS],
    ids=lambda path: path.stem,
)
def test_a_lesson_runs_as_a_notebook(path, tmp_path, monkeypatch):
    jupytext = pytest.importorskip("jupytext", reason="the lessons are opened as notebooks with jupytext, from PyPI")
    nbclient = pytest.importorskip("nbclient", reason="the notebooks are run with nbclient and ipykernel, from PyPI")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows pictures
    monkeypatch.chdir(tmp_path)
    notebook = jupytext.read(path)
    assert [cell.cell_type for cell in notebook.cells].count("code") > 3
    nbclient.NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert "ipykernel" not in printed
    assert ("InvalidGradientError" not in printed) or re.search(r"cell \d+, line \d+", printed), "where a draw is"
    assert not [o for o in outputs if o.output_type == "execute_result" and set(o.data) == {"text/plain"}]
    assert any({"image/png", "text/html"} & set(output.get("data", ())) for output in outputs), "it shows a picture"
    for file in (tmp_path / "figures").iterdir():
        assert f"figures/{file.name}" in printed


def test_the_lesson_on_pytorch_has_something_to_say_without_it(tmp_path):
    lesson = next(path for path in LESSONS if "pytorch" in path.stem)
    code = f"""
import runpy, sys
class Missing:
    def find_spec(self, name, *_):
        if name == "torch":
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
sys.argv = [{str(lesson)!r}]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "PyTorch is not installed. It would have shown" in done.stdout
    assert (tmp_path / "figures" / f"{lesson.stem}.png").exists()


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_what_a_lesson_names_exists(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\btg\.(\w+)", text):
        assert hasattr(tg, name), name
    source = text.rpartition("# In the source:")[2].partition("# In the literature")[0]
    files = re.findall(r"[\w/]+(?:\.py|/)(?=[`\s,;:.])", source)
    assert files
    for file in files:
        assert (ROOT / file).exists() if "/" in file else any(ROOT.glob(f"tinygrad_vae/**/{file}")), file


def test_pictures_go_where_they_are_asked_to(lesson, tmp_path):
    path = PLOTTED[0]
    lesson(path, tmp_path / "elsewhere")
    assert [file.name for file in tmp_path.rglob("*.*")] == [f"{path.stem}.png"]
    lesson(path, "-f", "kernel.json")  # how a notebook is started
    assert (tmp_path / "figures" / f"{path.stem}.png").exists()


@pytest.mark.parametrize(
    "path",
    [p if p.stem[:2] in ("02", "04", "09") else pytest.param(p, marks=pytest.mark.long) for p in LESSONS],
    ids=lambda path: path.stem,
)
def test_every_assertion_of_a_lesson_can_fail(path, lesson, capsys):
    broken = lesson(path, run=run_with_broken_assertions)
    assert broken
    assert [b for b in broken if b.noticed is False] == []
    if not re.search("No GPU here|PyTorch is not installed", capsys.readouterr().out):
        assert [b for b in broken if b.noticed is None] == [], "not reached"


@pytest.mark.parametrize("script", ["a = b = 0\nassert a <= b", "assert abs(2 - 1) < 7", "if 0:\n    assert 1 == 1"])
def test_an_assertion_that_cannot_fail_is_found(script, tmp_path):
    (tmp_path / "script.py").write_text(script)
    assert not run_with_broken_assertions(tmp_path / "script.py")[0].noticed


@pytest.mark.parametrize(
    "path",  # these two train for seconds before they come to a gradient
    [pytest.param(p, marks=pytest.mark.long) if p.stem[:2] in ("19", "21") else p for p in MEASURED],
    ids=lambda path: path.stem,
)
def test_a_lesson_notices_a_gradient_that_is_a_tenth_too_long(path, lesson, monkeypatch):
    right = tg.gradients
    monkeypatch.setattr(
        tg, "gradients", lambda *args, **options: tg.trees.map_leaves(lambda g: 1.1 * g, right(*args, **options))
    )
    with pytest.raises(AssertionError):
        lesson(path)
