"""The README: its code runs and prints what it says, and its two commands are those that exist."""

import ast
import doctest
import re
import tomllib
from pathlib import Path

import pytest

import tinygrad_vae as tg

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def test_every_code_block_prints_what_it_says():
    code = "\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL))
    before = [(registry, dict(registry)) for registry in (tg.OPS, tg.DISTRIBUTIONS, tg.ESTIMATORS)]
    example = doctest.DocTestParser().get_doctest(code, {}, "README", "README.md", 0)
    assert len(example.examples) > 10
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    try:
        runner.run(example, out=report.append)
    finally:
        for registry, declared in before:
            registry.clear()
            registry.update(declared)
    assert not runner.failures, "".join(report)


def test_there_are_exactly_two_commands_and_they_name_extras_that_exist():
    commands = re.findall(r"```sh\n(.*?)\n```", TEXT)
    assert [c.split(" && ")[1] for c in commands] == ["tinygrad-vae train", "python -m pytest"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command in commands:
        assert re.search(r'"\.\[(\w+)\]"', command)[1] in project["optional-dependencies"]
    assert "tinygrad-vae" in project["scripts"]


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", TEXT))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\btg\.([\w.]+\w)", TEXT))))
def test_every_name_exists(name):
    found = tg
    for part in name.split("."):
        found = getattr(found, part)


def table(heading):
    """Return the rows of the table below a heading, without its head."""
    lines = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].splitlines()
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")][2:]


def test_the_table_of_the_course_is_that_of_the_lessons():
    words = {
        "a second": 1,
        "two seconds": 2,
        "three seconds": 3,
        "four seconds": 4,
        "five seconds": 5,
        "six seconds": 6,
    }
    lessons = sorted((ROOT / "examples").glob("[0-9][0-9]_*.py"))
    for (link, question, seconds), path in zip(table("The course"), lessons, strict=True):
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert link == f"[{int(path.stem[:2])}](examples/{path.name})"
        assert question == doc.partition("\n\n")[0].replace("\n", " ")
        said = re.search(r"Runs in about (a second|\w+\s+seconds)", doc)[1]
        assert seconds == f"{words[' '.join(said.split())]} s"


def test_the_citation_names_the_version_and_the_license():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entry = re.search(r"```bibtex\n(.*?)```", TEXT, re.DOTALL)[1]
    assert f"version = {{{project['version']}}}" in entry
    assert f"license = {{{project['license']}}}" in entry
