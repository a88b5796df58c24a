"""The benchmarks: the README shows what their results files hold, and what they claim holds at a smaller budget."""

import importlib
import json
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize("name", ["mnist_bounds", "discrete_latents"])
def test_the_readme_shows_the_table_of_the_results_file(name, benchmark):
    module = benchmark(name)
    results = json.loads(module.RESULTS.read_text())
    assert module.table(results) in README
    assert f"python tests/benchmarks/{name}.py" in README


@pytest.mark.long
@pytest.mark.parametrize("better", ["DisARM", "REBAR"])
def test_discrete_latents_are_trained_better_than_by_the_score_function_in_the_same_time(better, benchmark):
    found = benchmark("discrete_latents").compared(["score function", better], seconds=5, seeds=4, points=5)
    gain, error = found[better]["gain"]
    assert gain > 4.5 * error, found[better]
    assert math.isfinite(error)
