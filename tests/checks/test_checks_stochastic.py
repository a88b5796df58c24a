"""The checks of distributions and estimators pass what is right, and find each declaration that is wrong in one way."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from standard_errors import LAWS

import tinygrad_vae as tg
from tinygrad_vae.checks.ops import CheckError
from tinygrad_vae.domains import POSITIVE


@pytest.fixture(autouse=True)
def _forget_what_is_declared():
    laws, estimators = dict(tg.DISTRIBUTIONS), dict(tg.ESTIMATORS)
    yield
    for registry, before in ((tg.DISTRIBUTIONS, laws), (tg.ESTIMATORS, estimators)):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_distribution_passes(law):
    tg.check_distribution(law)


def bound(logits, rng):
    b = tg.Independent(tg.Bernoulli(logits=logits), 1).sample((3,), rng=rng, name="b")
    return tg.logsumexp(tg.sum(b * np.array([1.0, -2.0]), axis=1), axis=0)


@pytest.mark.parametrize("name", tg.ESTIMATORS)
def test_every_estimator_passes(name):
    special = {"program": bound, "at": np.array([0.4, -0.3])} if name == "vimco" else {}
    tg.check_estimator(tg.ESTIMATORS[name], **special)


def test_an_instance_can_be_checked_and_a_special_estimator_needs_a_program():
    tg.check_estimator(tg.ScoreFunction(0.5, credit="downstream"))
    with pytest.raises(CheckError, match=r"vimco is valid nowhere here; give program=(.|\n)*must be logsumexp"):
        tg.check_estimator(tg.VIMCO)


@pytest.mark.parametrize("wrong", [3.0, tg.Normal(0.0, 1.0), "pathwise"])
def test_what_is_no_declaration_is_refused(wrong):
    with pytest.raises(TypeError, match="check_distribution takes a subclass of Distribution, found"):
        tg.check_distribution(wrong)
    with pytest.raises(TypeError, match="check_estimator takes a subclass of Estimator or an instance"):
        tg.check_estimator(wrong)


# ----------------------------------------------------------------------------------- one thing is wrong


def exponential(**wrong):
    """Return the class of an exponential law, right but for what is given."""

    @dataclass(frozen=True, eq=False)
    class Waiting(tg.Distribution):
        """The exponential law of mean ``scale``."""

        scale: object = tg.parameter(POSITIVE)
        support: ClassVar = POSITIVE

        def log_density(self, x):
            return -x / self.scale - tg.log(self.scale)

        def cdf(self, x):
            return 1 - tg.exp(-x / self.scale)

        def icdf(self, p):
            return -self.scale * tg.log(1 - p)

        mean = property(lambda self: self.scale + 0.0)
        variance = property(lambda self: self.scale * self.scale)

        def entropy(self):
            return 1 + tg.log(self.scale)

    for name, value in wrong.items():
        setattr(Waiting, name, value)
    return Waiting


def test_a_right_distribution_passes():
    tg.check_distribution(exponential())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"log_density": lambda self, x: -x / self.scale}, "the score in scale|entropy"),
        ({"mean": property(lambda self: 1.2 * self.scale)}, "mean: the mean of 4000 draws"),
        ({"variance": property(lambda self: 0.7 * self.scale * self.scale)}, "variance: the mean"),
        ({"entropy": lambda self: tg.log(self.scale)}, "entropy: the mean"),
        ({"entropy": lambda self: np.zeros((7,))}, r"entropy has shape \(7,\), expected \(\)"),
        ({"mean": property(lambda self: self.scale + np.zeros(()))}, "mean is float64 for parameters of float32"),
        ({"cdf": lambda self, x: 1 - tg.exp(-x / self.scale) ** 2}, "the draws do not follow the cdf"),
        ({"icdf": lambda self, p: -self.scale * tg.log(p)}, r"icdf\(cdf\(x\)\) is"),
        ({"support": tg.Uniform(0.0, 1.0).support}, r"log_prob: x must be|outside its support"),
        ({"transform": lambda self, u: -tg.stop_gradient(self.scale) * tg.log(u)}, "the pathwise gradient of E z"),
        ({"__post_init__": lambda self: None}, "scale = nan is outside of its domain, positive, and is not refused"),
    ],
)
def test_a_wrong_distribution_is_found(wrong, message):
    with pytest.raises((CheckError, ValueError), match=message):
        tg.check_distribution(exponential(**wrong))


class _Score(tg.Estimator):
    """A score function, right but for what a subclass changes."""

    name: ClassVar[str] = "test-score"

    def factor(self, z):
        log_prob = self.noted(z.dist.log_density(tg.stop_gradient(z)), z)
        return tg.exp(log_prob - tg.stop_gradient(log_prob))

    def objection(self, z, cost):
        good = cost.ndim == 1 and z.ndim == 1 and not z.dist.moving()
        return None if good else "one draw for each cost"

    def apply(self, z, cost, rest):
        return self.factor(z) * rest(tg.stop_gradient(z))


del tg.ESTIMATORS["test-score"]


def estimator(**changed):
    """Return an estimator with some parts replaced."""
    return type("Changed", (_Score,), {"name": "test-score"} | changed)


def test_a_right_estimator_passes():
    tg.check_estimator(estimator())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"apply": lambda self, z, cost, rest: self.factor(z) ** 2 * rest(tg.stop_gradient(z))}, "standard errors lie"),
        (
            {"apply": lambda self, z, cost, rest: self.factor(z) * rest(1.1 * z.value), "weighs": False},
            "the value of the cost has changed",
        ),
        ({"apply": lambda self, z, cost, rest: rest(z)}, "a random node is left"),
        ({"noted": lambda self, x, z: x}, "explain does not name it"),
        ({"biased": "it is not", "noted": lambda self, x, z: tg.Pathwise().noted(x, z)}, "explain does not name it"),
        ({"objection": lambda self, z, cost: "never"}, "valid nowhere here"),
    ],
)
def test_a_wrong_estimator_is_found(changed, message):
    with pytest.raises(CheckError, match=message):
        tg.check_estimator(estimator(**changed))


def test_a_bias_that_is_declared_is_not_held_against_an_estimator():
    wrong = {"apply": lambda self, z, cost, rest: self.factor(z) ** 2 * rest(tg.stop_gradient(z))}
    tg.check_estimator(estimator(**wrong, biased="it is twice as long"))
