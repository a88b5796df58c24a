"""The lessons of the course: in order, open as notebooks, true to the library that they teach, and able to fail."""

import ast
import re
import runpy
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

import tinygrad_vae as tg

ROOT = Path(__file__).parent.parent
LESSONS = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))[1:]  # the first one has a form of its own
MEASURED = [path for path in LESSONS if path.stem[:2] not in ("10", "12", "13")]
"""The lessons that hold gradients against their theory. The others train, and forgive a gradient of another length."""


@pytest.fixture
def lesson(monkeypatch, tmp_path):
    """Run a lesson in this process, with its pictures in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")

    def run(path, *arguments):
        monkeypatch.setattr("sys.argv", [str(path), *map(str, arguments)])
        with matplotlib.rc_context():
            try:
                runpy.run_path(str(path), run_name="__main__")
            finally:
                plt.close("all")

    return run


def test_the_lessons_are_numbered_without_a_gap():
    assert [int(path.stem[:2]) for path in LESSONS] == list(range(2, len(LESSONS) + 2))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_opens_with_a_question_and_closes_with_what_to_read(path):
    text = path.read_text(encoding="utf-8")
    question, answer = ast.get_docstring(ast.parse(text)).split("\n\n")[:2]
    assert question.endswith("?")
    assert len(re.findall(r"[.?!](?:\s|$)", answer)) <= 3
    last = text.rpartition("# %% [markdown]\n")[2]
    assert last.startswith("# ## Where to read on\n")
    assert "In the source:" in last
    assert "In the literature" in last


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_opens_as_a_notebook(path):
    head, *cells = re.split(r"^(?=# %%)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    ast.parse(head)
    kinds = [cell.partition("\n")[0] for cell in cells]
    assert set(kinds) == {"# %%", "# %% [markdown]"}
    for kind, cell in zip(kinds, cells, strict=True):
        statements = ast.parse(cell).body  # a cell holds whole statements
        assert bool(statements) == (kind == "# %%"), cell


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_what_a_lesson_names_exists(path):
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\btg\.(\w+)", text):
        assert hasattr(tg, name), name
    for file in re.findall(r"`(tinygrad_vae/[\w/.]*)`", text):
        assert (ROOT / file).exists(), file
    promised = set(re.findall(r"``figures/([\w.]+)``", ast.get_docstring(ast.parse(text))))
    assert promised == set(re.findall(r'savefig\(figures / "([\w.]+)"\)', text))


def test_pictures_go_where_they_are_asked_to(lesson, tmp_path):
    lesson(LESSONS[0], tmp_path / "elsewhere")
    assert [file.name for file in tmp_path.rglob("*.*")] == [f"{LESSONS[0].stem}.png"]
    lesson(LESSONS[0], "-f", "kernel.json")  # how a notebook is started
    assert (tmp_path / "figures" / f"{LESSONS[0].stem}.png").exists()


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_a_lesson_notices_a_gradient_that_is_a_tenth_too_long(path, lesson, monkeypatch):
    right = tg.gradients
    monkeypatch.setattr(
        tg, "gradients", lambda *args, **options: tg.trees.map_leaves(lambda g: 1.1 * g, right(*args, **options))
    )
    with pytest.raises(AssertionError):
        lesson(path)
