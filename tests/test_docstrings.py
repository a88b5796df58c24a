"""Every example in a docstring runs and prints what it says; ``np`` and ``tg`` are at hand in each."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest

import tinygrad_vae as tg

MODULES = ["tinygrad_vae", *(m.name for m in pkgutil.walk_packages(tg.__path__, "tinygrad_vae."))]


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name in MODULES:
        if name.endswith("__main__"):
            continue
        module = importlib.import_module(name)
        yield from finder.find(module, name, extraglobs={"np": np, "tg": tg})


@pytest.mark.parametrize("example", [e for e in _examples() if e.examples], ids=lambda e: e.name)
def test_example_in_docstring(example):
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    report = []
    runner.run(example, out=report.append)
    assert not runner.failures, "".join(report)
