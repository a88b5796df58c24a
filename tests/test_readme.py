"""The README: its code runs and prints what it says, and its two commands are those that exist."""

import doctest
import re
import tomllib
from pathlib import Path

import pytest

import tinygrad_vae as tg
import tinygrad_vae.app

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
PAGES = ["README.md", "examples/coming_from_pytorch.md", "examples/museum/README.md", "tests/benchmarks/README.md"]


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


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text()):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_lesson_is_in_the_course():
    lessons = {f"examples/{path.name}" for path in (ROOT / "examples").glob("*.py")}
    assert lessons <= set(re.findall(r"\]\(([^)]+)\)", TEXT.partition("\n## The course\n")[2]))


NAMES = {
    name for page in PAGES for name in re.findall(r"\b(?:tg|tinygrad_vae)\.(\w[\w.]*\w)", (ROOT / page).read_text())
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_exists(name):
    found = tg
    for part in name.split("."):
        found = getattr(found, part)


def test_the_citation_names_the_version_and_the_license():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {project['version']}\n" in citation
    assert f"\nlicense: {project['license']}\n" in citation
