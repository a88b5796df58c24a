"""The checks of distributions and estimators pass what is right, and find each declaration that is wrong in one way."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from standard_errors import DISTRIBUTIONS

import tinygrad_vae as tg
from tinygrad_vae.checks.ops import CheckError
from tinygrad_vae.domains import POSITIVE, REAL, greater_than


@pytest.fixture(autouse=True)
def _forget_what_is_declared():
    distributions, estimators = dict(tg.DISTRIBUTIONS), dict(tg.ESTIMATORS)
    yield
    for registry, before in ((tg.DISTRIBUTIONS, distributions), (tg.ESTIMATORS, estimators)):
        registry.clear()
        registry.update(before)


@pytest.mark.parametrize("family", DISTRIBUTIONS, ids=lambda family: family.__name__)
def test_every_distribution_passes(family):
    tg.check_distribution(family)


def unnormalised(family, factor):
    """Return a copy of a distribution whose density lacks a constant, and that declares no entropy."""

    def entropy(self):
        raise NotImplementedError

    log_density = lambda self, x: family.log_density(self, x) + float(np.log(factor))  # noqa: E731
    return type(
        family.__name__ + "2", (family,), {"log_density": log_density, "entropy": entropy, "__module__": "tests"}
    )


VECTORS = [tg.OneHotCategorical, tg.MultivariateNormal]


@pytest.mark.parametrize("factor", [2.507, 0.8])
@pytest.mark.parametrize("family", [tg.Normal, tg.Gamma, tg.StudentT, tg.Beta, tg.Poisson, tg.Bernoulli, *VECTORS])
def test_a_density_without_its_constant_is_found(family, factor):
    with pytest.raises(CheckError, match=r"the integral of the density|the probability of|the mean of q"):
        tg.check_distribution(unnormalised(family, factor))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda other, path, size: (other, 0.9 * path, size), r"of E z\^2 by alternatives in (rate|logits)"),
        (lambda other, path, size: (other + 1, path, size), r"of E z\^2 by alternatives|alternative gives"),
        (lambda other, path, size: (-1 - other, path, size), "alternative gives a float64 array"),
        (lambda other, path, size: (other, path, -size), "the size of an alternative must not be negative"),
    ],
    ids=["too short", "too far", "outside", "negative"],
)
@pytest.mark.parametrize("family", [tg.Poisson, tg.Geometric, tg.Bernoulli, tg.OneHotCategorical])
def test_a_wrong_alternative_to_a_draw_is_found(family, wrong, message):
    changed = {"alternative": lambda self, z, noise: wrong(*family.alternative(self, z, noise)), "__module__": "tests"}
    tg.check_distribution(type(family.__name__ + "2", (family,), {"__module__": "tests"}))
    with pytest.raises(CheckError, match=message):
        tg.check_distribution(type(family.__name__ + "3", (family,), changed))


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


def test_a_discrete_draw_with_a_path_is_found():
    wrong = type("Coin", (tg.Bernoulli,), {"path": "explicit", "__module__": "tests"})
    with pytest.raises(CheckError, match=r"Coin: a draw from .* jumps as the parameters move; declare path = None"):
        tg.check_distribution(wrong)


def test_a_support_may_be_made_of_a_parameter():
    @dataclass(frozen=True, eq=False)
    class Late(tg.Distribution):
        """An exponential of rate 1 that begins at ``start``."""

        start: object = tg.parameter(REAL, moves_support=True)
        support = property(lambda self: greater_than(self.start))

        def log_density(self, x):
            return self.start - x

        def icdf(self, p):
            return self.start - tg.log1p(-p)

    tg.check_distribution(Late)
    z = Late(tg.Tensor(1.0)).sample(rng=tg.noise(0))
    with pytest.raises(tg.InvalidGradientError, match="the support of Late moves with start"):
        tg.gradients(tg.score_function(z * z), z.dist.start)
    assert float(tg.gradients(tg.reparameterize(z * z), z.dist.start)) == pytest.approx(2 * float(z.value))


@pytest.mark.parametrize("wrong", [3.0, tg.Normal(np.zeros(2), 1.0), "pathwise"])
def test_what_is_no_declaration_is_refused(wrong):
    with pytest.raises(TypeError, match=r"check_distribution takes a subclass of Distribution or one .* found"):
        tg.check_distribution(wrong)
    with pytest.raises(TypeError, match="check_estimator takes a subclass of Estimator or an instance"):
        tg.check_estimator(wrong)


# ----------------------------------------------------------------------------------- one thing is wrong


def exponential(**wrong):
    """Return the class of an exponential distribution, right but for what is given."""

    @dataclass(frozen=True, eq=False)
    class Waiting(tg.Distribution):
        """The exponential distribution of mean ``scale``."""

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
        (
            {"transform": lambda self, u: -tg.stop_gradient(self.scale) * tg.log(u)},
            "transform in scale: wrong gradient",
        ),
        (
            {"icdf": lambda self, p: np.exp(np.log(-np.log(1 - p)) + tg.log(self.scale))},
            "transform in scale: numpy.exp",
        ),
        ({"__post_init__": lambda self: None}, "scale = nan is outside of its domain, positive, and is not refused"),
    ],
)
def test_a_wrong_distribution_is_found(wrong, message):
    with pytest.raises((CheckError, ValueError), match=message):
        tg.check_distribution(exponential(**wrong))


@dataclass(frozen=True, eq=False)
class Cubic(tg.bijections.Bijection):
    """``a x + x^3 / 3``: right, but for the parts that a test replaces."""

    a: object

    def forward(self, x):
        return self.a * x + x * x * x / 3

    def inverse(self, y):
        h = 3 * y / 2
        root = tg.sqrt(h * h + self.a * self.a * self.a)
        return tg.sign(y) * (self.cube_root(abs(h) + root) - self.cube_root(root - abs(h)))

    def log_slope(self, x):
        return tg.log(self.a + x * x)

    @staticmethod
    def cube_root(x):
        return tg.exp(tg.log(x) / 3)


def check_bijection(f):
    tg.check_distribution(tg.Transformed(tg.Normal(0.2, 0.7), f))


def test_a_right_bijection_passes():
    for f in (tg.bijections.Exp(), tg.bijections.Sigmoid(), tg.bijections.Tanh(), tg.bijections.Affine(1.3, 0.6)):
        check_bijection(f)
    check_bijection(Cubic(np.array(1.3)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"forward": lambda self, x: -self.a * x}, "the integral of the density|the score d"),
        ({"image": POSITIVE}, "log_prob: x must be what Changed makes of real"),
        ({"inverse": lambda self, y: y / self.a}, "the integral of the density|the score d"),
        (
            {"log_slope": lambda self, x: tg.log(self.a + 2 * x * x)},
            "the integral of the density|the score d",
        ),
        ({"log_slope": lambda self, x: tg.log(self.a + x * x + np.zeros(()))}, "log_prob is float64 for parameters of"),
        (
            {"log_slope": lambda self, x: tg.log(tg.stop_gradient(self.a) + x * x)},
            "the score d log_density / d bijections.a",
        ),
        (
            {"forward": lambda self, x: tg.stop_gradient(self.a) * x + x * x * x / 3},
            "transform in bijections.a: wrong gradient in",
        ),
    ],
)
def test_a_wrong_bijection_is_found(wrong, message):
    with pytest.raises((CheckError, ValueError), match=message):
        check_bijection(type("Changed", (Cubic,), wrong)(np.array(1.3)))


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
        ({"apply": lambda self, z, cost, rest: None}, "apply returned an object of type NoneType"),
        ({"noted": lambda self, x, z: x}, "explain does not name it"),
        ({"biased": "it is not", "noted": lambda self, x, z: tg.Pathwise().noted(x, z)}, "explain does not name it"),
        ({"objection": lambda self, z, cost: "never"}, "valid nowhere here"),
    ],
)
def test_a_wrong_estimator_is_found(changed, message):
    with pytest.raises((CheckError, TypeError), match=message):
        tg.check_estimator(estimator(**changed))


def test_a_bias_that_is_declared_is_not_held_against_an_estimator():
    wrong = {"apply": lambda self, z, cost, rest: self.factor(z) ** 2 * rest(tg.stop_gradient(z))}
    tg.check_estimator(estimator(**wrong, biased="it is twice as long"))
