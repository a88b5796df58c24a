"""The README: its code runs and prints what it says, and its two commands are those that exist."""

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
    before = dict(tg.OPS)
    example = doctest.DocTestParser().get_doctest(code, {}, "README", "README.md", 0)
    assert len(example.examples) > 10
    report = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    try:
        runner.run(example, out=report.append)
    finally:
        for name in set(tg.OPS) - set(before):
            del tg.OPS[name]
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
