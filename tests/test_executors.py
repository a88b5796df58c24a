"""Replicates on an executor give the numbers of replicates one after the other."""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest
import replicates

import tinygrad_vae as tg
from tinygrad_vae import vae


@pytest.fixture(scope="module", params=["threads", "processes"])
def executor(request):
    if request.param == "threads":
        made = ThreadPoolExecutor(2)
    else:
        made = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with made:
        yield made


def numbers(comparison):
    """All that a comparison found but for times, by estimator."""
    return {
        row.name: (row.mean.tolist(), row.standard_error.tolist(), row.variance, row.nodes, row.alarm, row.refused)
        for row in comparison.rows
    }


def test_a_comparison_is_the_same(executor):
    def compare(**options):
        own = tg.noise(5)
        chosen = ["enumeration", "gumbel-softmax", "pathwise", tg.REBAR(own), tg.SecondDraw(own)]
        found = tg.compare_estimators(
            replicates.nested, replicates.PARAMETERS, rng=tg.noise(0), runs=44, estimators=chosen, **options
        )
        return numbers(found), own.drawn

    told = []
    with warnings.catch_warnings():
        before = list(warnings.filters)
        found = compare(executor=executor, progress=lambda done, runs: told.append((done, runs)))
        assert warnings.filters == before
    np.testing.assert_equal(found, compare())
    assert told == sorted(told)
    assert told[-1] == (44, 44)


def test_an_audit_is_the_same(executor):
    def audit(**options):
        words = replicates.tosses, replicates.PARAMETERS, "rebar", "enumeration"
        return tg.audit(*words, rng=tg.noise(1), runs=40, **options)

    np.testing.assert_equal(vars(audit(executor=executor)), vars(audit()))


@pytest.mark.parametrize("posterior", ["gaussian", "bernoulli"])
def test_an_evaluation_is_the_same(posterior, executor):
    model = tg.VAE.init(16, hidden=(5,), latent=3, posterior=posterior, rng=tg.noise(0))
    images = (tg.noise(1).uniform((23, 16)) < 0.3).astype(np.float32)

    def measure(**options):
        told, rng = [], tg.noise(2)
        progress = lambda *found: told.append(found)  # noqa: E731
        found = vae.measure(model, images, rng=rng, samples=300, batch=5, progress=progress, **options)
        return found, told, rng.drawn

    np.testing.assert_equal(measure(executor=executor), measure())


def test_an_error_of_a_replicate_is_raised(executor):
    with pytest.raises(ZeroDivisionError, match="in run 30"):
        tg.compare_estimators(replicates.refused, replicates.PARAMETERS, rng=tg.noise(0), runs=40, executor=executor)


def test_work_that_processes_cannot_be_given_is_named():
    def cost(theta, rng):
        return tg.Normal(theta, 1.0).sample(rng=rng) ** 2

    mu = tg.Tensor(2.0)
    drawn = cost(mu, tg.noise(0))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        for f, wrt in ((cost, np.float64(2.0)), (drawn, mu)):
            with pytest.raises(TypeError, match=r"cannot be given this work.*top level of a module"):
                tg.compare_estimators(f, wrt, rng=tg.noise(0), estimators=["score-function"], executor=executor)


def test_what_is_no_executor_is_named():
    with pytest.raises(TypeError, match=r"executor takes a concurrent\.futures\.Executor, found int"):
        tg.compare_estimators(replicates.nested, replicates.PARAMETERS, rng=tg.noise(0), runs=30, executor=4)
