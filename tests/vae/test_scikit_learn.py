"""The VAE among scikit-learn's estimators: its own checks of them, a pipeline, and densities that are known."""

import pickle

import numpy as np
import pytest
import scipy.stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.vae import VAEEstimator


@parametrize_with_checks([VAEEstimator(hidden=(8,), epochs=2, score_draws=5, random_state=0)])
def test_scikit_learn_takes_it_for_an_estimator(estimator, check):
    check(estimator)


def arc(n=400, seed=0):
    """Return points near an arc in three dimensions: one latent angle, which no linear method can follow."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, np.pi, n)
    return np.stack([np.cos(angle), np.sin(angle), angle], axis=1) + rng.normal(0, 0.05, (n, 3))


def fitted(x, **options):
    return VAEEstimator(**{"latent": 1, "hidden": (16,), "epochs": 30, "random_state": 0} | options).fit(x)


def test_it_learns_the_density_of_what_it_sees():
    """Data with one hidden factor: on new rows the log-likelihood comes close to that of the true distribution."""
    w, noise = np.array([1.0, -0.8, 0.6]), 0.4
    covariance = np.outer(w, w) + noise**2 * np.eye(3)
    dist = scipy.stats.multivariate_normal([1.0, 0.0, -1.0], covariance)
    x, new = dist.rvs(1000, random_state=0), dist.rvs(1000, random_state=1)
    vae = fitted(x, epochs=25, hidden=(32,))
    missing = dist.logpdf(new) - vae.score_samples(new)
    without_factor = (3 * np.log(np.diag(covariance).mean()) - np.linalg.slogdet(covariance)[1]) / 2
    assert missing.mean() > -4.5 * missing.std(ddof=1) / len(new) ** 0.5  # nothing beats the truth
    assert missing.mean() < 0.2 * without_factor
    draws = vae.sample(2000, random_state=0)
    assert np.abs(np.cov(draws.T) - covariance).max() < 0.25 * covariance.max()


def test_rows_far_from_the_data_score_low():
    vae = fitted(arc())
    inside, outside = vae.score_samples(arc(50, seed=1)), vae.score_samples(arc(50, seed=1) + 3.0)
    assert inside.min() > outside.max()


def test_there_and_back_in_a_pipeline():
    x = 100 + 30 * arc()
    pipeline = make_pipeline(StandardScaler(), VAEEstimator(latent=1, random_state=0)).fit(x)
    code = pipeline.transform(x)
    assert code.shape == (400, 1)
    back = pipeline.inverse_transform(code)
    assert np.square(x - back).mean() < 0.05 * x.var(axis=0).mean()
    assert list(pipeline[-1].get_feature_names_out()) == ["vaeestimator0"]
    assert np.isfinite(pipeline.score(x))


def test_a_grid_search_chooses_by_the_log_likelihood():
    search = GridSearchCV(VAEEstimator(latent=1, hidden=(8,), random_state=0), {"epochs": [1, 40]}, cv=2).fit(arc(200))
    assert search.best_params_ == {"epochs": 40}


def test_the_seed_decides_everything_and_a_copy_is_the_same():
    x = arc(100)
    one, again, other = fitted(x), clone(fitted(x)).fit(x), fitted(x, random_state=1)
    for a, b in zip(trees.leaves(one.model_), trees.leaves(again.model_), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.transform(x), other.transform(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).score_samples(x), one.score_samples(x))
    assert len(one.history_) == 30
    assert one.history_[-1] > one.history_[0]


def test_the_distributions_behind_a_code_and_a_reconstruction():
    x = arc(100)
    vae = fitted(x)
    q = vae.encode(x)
    np.testing.assert_array_equal(q.mean, vae.transform(x))
    assert (q.variance > 0).all()
    np.testing.assert_array_equal(vae.decode(q.mean).mean, vae.inverse_transform(q.mean))
    assert vae.decode(q.mean).log_prob(x).shape == (100,)
    drawn = fitted(x, kl="monte-carlo")
    assert not np.array_equal(drawn.transform(x), q.mean)


def test_float32_stays_float32():
    x = arc(100).astype(np.float32)
    vae = fitted(x)
    for found in (vae.transform(x), vae.inverse_transform(vae.transform(x)), vae.sample(3), vae.score_samples(x)):
        assert found.dtype == np.float32


@pytest.mark.parametrize(
    "options", [{"posterior": "bernoulli"}, {"posterior": "one-hot"}, {"posterior": "full-gaussian"}]
)
def test_other_posteriors_and_likelihoods(options):
    x = (arc(100) > 0.3).astype(np.float64)
    estimator = "score-function" if options["posterior"] in ("bernoulli", "one-hot") else "pathwise"
    vae = fitted(x, latent=3, epochs=3, likelihood="bernoulli", estimator=estimator, **options)
    code = vae.transform(x)
    assert code.shape == (100, vae.model_.posterior.width)
    assert vae.inverse_transform(code).shape == x.shape
    assert set(np.unique(vae.sample(20, random_state=0))) <= {0.0, 1.0}
    assert (vae.score_samples(x) < 0).all()


def test_the_score_of_a_row_agrees_with_the_importance_weighted_bound_over_other_noise():
    x = arc(100)
    vae = fitted(x, score_draws=2000)
    other = tg.importance_weighted_bound(vae.model_, x, rng=tg.noise(1), samples=2000)
    weights = tg.importance_weighted_bound(vae.model_, x, rng=tg.noise(2), samples=2000) - other
    assert abs((vae.score_samples(x) - other).mean()) < 4.5 * weights.std()  # all rows share their noise


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fitted(x, bound="vae"), "bound must be one of"),
        (lambda x: fitted(x, batch=0), "batch must be a positive integer"),
        (lambda x: fitted(x, likelihood="bernoulli"), "BernoulliHead takes pixels from 0 to 1"),
        (lambda x: fitted(x, learning_rate=-1.0), "learning_rate must be a positive number"),
        (lambda x: fitted(x, epochs=1).inverse_transform(np.ones((2, 3))), "expected 1 latents in each row, found 3"),
        (lambda x: fitted(x, epochs=1).sample(0), "n_samples must be a positive integer"),
    ],
)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(arc(20))
