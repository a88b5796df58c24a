"""The benchmarks: what they claim holds at a smaller budget."""

import importlib.util
import math
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def benchmark(name):
    path = ROOT / "tests" / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
@pytest.mark.parametrize("better", ["DisARM", "REBAR"])
def test_discrete_latents_are_trained_better_than_by_the_score_function_in_the_same_time(better):
    found = benchmark("discrete_latents").compared(["score function", better], seconds=5, seeds=4, points=5)
    gain, error = found[better]["gain"]
    assert gain > 4.5 * error, found[better]
    assert math.isfinite(error)
