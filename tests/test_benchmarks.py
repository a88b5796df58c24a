"""The benchmarks: their README shows what the results files hold, and what they claim holds at a smaller budget."""

import contextlib
import importlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "tests" / "benchmarks" / "README.md").read_text()


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "benchmarks")
    return importlib.import_module


@pytest.mark.parametrize("name", ["bench_step", "bench_scale", "mnist_bounds", "discrete_latents"])
def test_the_readme_shows_the_table_of_the_results_file(name, benchmark):
    module = benchmark(name)
    results = json.loads(module.RESULTS.read_text())
    assert module.table(results) in README
    assert f"python tests/benchmarks/{name}.py" in README


def test_every_contender_makes_the_step_that_it_is_timed_for(benchmark):
    step = benchmark("training_step")
    found = {}
    for name in step.CONTENDERS.keys() - {step.ONLY_PRODUCTS, "torch.compile, fused Adam"}:  # which takes a minute
        with contextlib.suppress(ImportError, step.AbsentError):
            found[name] = step.first_steps(step.CONTENDERS[name](step.new_model()), step.images(16))
    assert len(found) >= 6
    assert step.disagreements(found) == []
    name = "tinygrad_vae eager"
    found[name][1][0] = found[name][1][0] + step.RATE
    assert name in step.disagreements(found)[0]


@pytest.mark.parametrize("compiled", [False, None])
def test_the_profile_of_a_step_accounts_for_all_of_its_time(compiled, benchmark):
    profile = benchmark("bench_profile")
    whole, rows = profile.profile(16, steps=3, compiled=compiled)
    kinds = profile.by_kind(whole, rows)
    assert sum(kinds.values()) >= 0.99 * whole
    products = sorted(what for kind, what, _ in rows if kind == profile.PRODUCT)
    assert len(products) == 14  # of five layers: forward, to the weights, and to the inputs of all but the first
    assert "16x784 @ 784x400" in products
    assert all(what and seconds >= 0 for _, what, seconds in rows)


def test_a_node_takes_a_few_hundred_bytes_however_deep_the_graph_is(benchmark):
    ops = benchmark("bench_ops")
    kept, peaks = zip(*(ops.bytes_of_a_node(n) for n in (1000, 10000)), strict=True)
    assert max(kept) - ops.START.nbytes < 350
    assert max(peaks) - ops.START.nbytes < 700
    assert kept[1] == pytest.approx(kept[0], rel=0.05)


@pytest.mark.long
@pytest.mark.parametrize("better", ["DisARM", "REBAR"])
def test_discrete_latents_are_trained_better_than_by_the_score_function_in_the_same_time(better, benchmark):
    found = benchmark("discrete_latents").compared(["score function", better], seconds=5, seeds=4, points=5)
    gain, error = found[better]["gain"]
    assert gain > 4.5 * error, found[better]
    assert math.isfinite(error)


def test_starts_are_timed_in_processes_of_their_own(benchmark):
    start = benchmark("bench_start")
    names = [start.NUMPY, "tinygrad-vae --help", "tinygrad-vae train, one step"]
    seconds = [start.seconds_of(start.PROGRAMS[name], os.environ)[0] for name in names]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    rows = start.table({name: np.full((2, 2), cpu) for name, cpu in zip(names, seconds, strict=True)}).splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == names
