"""Ops that leap at poles: refused where a random value may cross one, allowed where it keeps to one side."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standard_errors import assert_agrees

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.ops.cases import cases_of, draw_inputs
from tinygrad_vae.ops.declare import OPS
from tinygrad_vae.ops.ranges import of_draw, promised

N = 4


def gradient_of(cost, dist=tg.Normal, draws=N):
    """Return the gradient of the sum of a cost of opened draws, or the reason why it is refused."""
    mu = tg.Tensor(np.full(draws, 0.3), "mu")
    z = dist(mu, 1.0).rsample(rng=tg.noise(0), name="z")
    try:
        return tg.gradients(tg.sum(cost(z)), mu)
    except tg.InvalidGradientError as refusal:
        return str(refusal)


LEAPING = {
    "a sign": lambda z: z / abs(z),
    "a sign from a root": lambda z: tg.sqrt(z * z) / z,
    "a sign from logarithms": lambda z: tg.exp(tg.log(abs(z))) / z,
    "a convention at 0": lambda z: tg.divide_or_zero(z, abs(z)),
    "a step": lambda z: tg.relu(z) / abs(z),
    "atan": lambda z: tg.atan(1 / z),
    "sigmoid": lambda z: tg.sigmoid(tg.reciprocal(z)),
    "atan of tan": lambda z: tg.atan(tg.tan(z)),
    "power": lambda z: tg.tanh(z**-1.0),
    "cube": lambda z: tg.tanh(z**-3),
    "digamma": lambda z: tg.tanh(tg.digamma(z)),
    "polygamma": lambda z: tg.tanh(tg.polygamma(0, z)),
    "lgamma": lambda z: tg.lgamma(z),
    "an inverse": lambda z: tg.tanh(tg.linalg.inv(tg.reshape(z, (N, 1, 1)))),
    "a solution": lambda z: tg.linalg.solve(z[0] * np.eye(2), np.ones(2)),
    "hypot": lambda z: z / tg.hypot(z, 0.0),
    "the norm of one": lambda z: z / tg.linalg.vector_norm(tg.reshape(z, (N, 1)), axis=1, keepdims=False),
    "the spread of two": lambda z: (z[:2] - tg.mean(z[:2])) / tg.std(z[:2]),
    "a pole elsewhere": lambda z: tg.atan(1 / (z * z - 1)),
    "sin": lambda z: tg.atan(1 / tg.sin(z)),
    "sin over the sine of another": lambda z: tg.sin(z) / z[::-1],
    "a kink that is 0 at 0": lambda z: tg.relu(z) / z,
    "a sum so far": lambda z: tg.cumulative_sum(z) / z,
    "two scaled to 0 and 1": lambda z: (z[:2] - tg.min(z[:2])) / (tg.max(z[:2]) - tg.min(z[:2])),
    "the wrong spread": lambda z: z / (tg.max(z[:2]) - tg.min(z[2:])),
}


@pytest.mark.parametrize("name", LEAPING)
def test_what_smooth_ops_make_leap_together_is_refused(name):
    assert "has a pole that a random value may cross" in gradient_of(LEAPING[name])
    z = tg.Normal(tg.Tensor(np.full(N, 0.3), "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    pathwise, score = tg.explain(tg.sum(LEAPING[name](z)), z.inputs[1]).nodes[0].options[:2]
    assert (pathwise.valid, score.valid) == (False, True)
    assert "between z and the cost jump" in pathwise.reason


RIGHT = {
    "a square and 1": lambda z: z / (1 + z**2),
    "an offset": lambda z: z / tg.sqrt(z * z + 0.5),
    "exp": lambda z: z / tg.exp(z),
    "softplus": lambda z: tg.log(z * z + 1) / tg.softplus(z),
    "a point on a sphere": lambda z: z / tg.linalg.vector_norm(z),
    "a point on a sphere by hand": lambda z: z / tg.sqrt(tg.sum(z * z)),
    "a point on a circle": lambda z: z[:2] / tg.hypot(z[0], z[1]),
    "scaled to 0 and 1": lambda z: (z - tg.min(z)) / (tg.max(z) - tg.min(z)),
    "scaled to 0 and 1 with an offset": lambda z: (z - tg.min(z)) / (tg.max(z) - tg.min(z) + 1e-6),
    "sin(z) / z": lambda z: tg.sin(z) / z,
    "expm1(z) / z": lambda z: tg.expm1(z) / z,
    "standardised": lambda z: (z - tg.mean(z)) / tg.std(z),
    "normalised": lambda z: tg.exp(z) / tg.sum(tg.exp(z)),
    "what tanh leaves": lambda z: 1 / (1 - tg.tanh(z) ** 2),
    "what sigmoid leaves": lambda z: 1 / (1 - tg.sigmoid(z)),
    "the same limit on both sides": lambda z: tg.exp(-1 / z**2),
    "an even power": lambda z: tg.atan(z**-2.0),
    "a bound": lambda z: z / tg.maximum(z, 0.1),
    "clipped": lambda z: z / tg.clip(z, 0.1, 3.0),
    "lgamma": lambda z: tg.lgamma(tg.exp(z)),
    "tan": lambda z: tg.tan(0.9 * tg.atan(z)),
    "a diagonal": lambda z: tg.linalg.solve(tg.exp(z[0]) * np.eye(2) + np.ones((2, 2)), np.ones(2)),
    "a covariance": lambda z: tg.linalg.inv(tg.reshape(z, (2, 2)) @ tg.reshape(z, (2, 2)).mT + np.eye(2)),
    "signs that stay": lambda z: 1 / (np.array([1.0, -1.0, 1.0, -1.0]) * tg.exp(z)),
    "float32": lambda z: 1 / (1 + tg.astype(z, np.float32) ** 2),
    "a parameter": lambda z: z / tg.Tensor(np.array([-1.0, 1.0, 2.0, 3.0])),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_denominator_that_keeps_its_sign_is_allowed(name):
    found = gradient_of(RIGHT[name])
    assert not isinstance(found, str), found
    z = tg.Normal(tg.Tensor(np.full(N, 0.3), "mu"), 1.0).sample(rng=tg.noise(0), name="z")
    assert tg.explain(tg.sum(RIGHT[name](z)), z.inputs[1]).nodes[0].options[0].valid


@pytest.mark.parametrize("draw", ["sample", "rsample"])
@pytest.mark.parametrize("family", [tg.Gamma, tg.InverseGamma, tg.LogNormal, tg.Weibull, tg.Beta, tg.Kumaraswamy])
def test_a_draw_of_positive_support_is_a_denominator(family, draw):
    dist = family.example(np.random.default_rng(0), (3,))
    first, *others = trees.leaves(dist)
    theta = tg.Tensor(first, "theta")
    dist = trees.replace_leaves(dist, [theta, *others])
    z = getattr(dist, draw)(rng=tg.noise(0), name="z")
    cost = tg.sum(tg.sin(1 / z) + tg.digamma(z))
    if draw == "sample":
        assert tg.explain(cost, theta).nodes[0].options[0].valid
    else:
        assert np.all(np.isfinite(tg.gradients(cost, theta)))


def test_the_score_function_finds_the_gradient_that_a_pole_hides():
    """E sign(z) = 2 Phi(mu) - 1."""
    mu = tg.Tensor(np.zeros(20_000), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0))
    assert_agrees(tg.gradients(tg.sum(tg.score_function(z / abs(z))), mu), 2 / math.sqrt(2 * math.pi))


POSITIVE_OF_REAL = [
    tg.exp, tg.softplus, tg.sigmoid, lambda r: 1 + r**2, lambda r: abs(r) + 0.5, lambda r: tg.maximum(r, 0.2),
    lambda r: tg.logaddexp(r, 0.1), lambda r: tg.cosh(tg.tanh(r)), lambda r: 1 - tg.tanh(r) ** 2, lambda r: tg.ndtr(r),
    lambda r: tg.mean(r * r) + 1e-3, lambda r: 2 + tg.sin(r), lambda r: tg.sqrt(r * r + 1),
]  # fmt: skip
POSITIVE_OF_POSITIVE = [
    tg.sqrt, tg.log1p, tg.reciprocal, lambda p: p**-0.5, lambda p: 1 / (1 + p), lambda p: tg.sum(p), tg.square,
    lambda p: tg.reshape(p + np.zeros(N), (2, 2)).mT[0, 1] * p, lambda p: tg.clip(p, 1e-3, 1e3), lambda p: p**3,
    lambda p: tg.negative(-p),
]  # fmt: skip
PAIRS_OF_POSITIVE = [tg.add, tg.multiply, tg.divide, tg.maximum, tg.minimum, tg.hypot]
REAL_OF_REAL = [tg.sin, tg.tanh, lambda r: 0.5 * r - 0.1, tg.atan, lambda r: r * r - 1, lambda r: abs(r) - 0.5, tg.relu]
PAIRS_OF_REAL = [tg.add, tg.subtract, tg.multiply, tg.maximum]
USES = [
    lambda r, p: r / p, lambda r, p: r * tg.reciprocal(p), lambda r, p: r * p**-1.0, lambda r, p: r * tg.digamma(p),
    lambda r, p: r * tg.lgamma(p), lambda r, p: r / -p, lambda r, p: 1 / (p + 1e-2) - r,
    lambda r, p: tg.linalg.solve(p[0] * np.eye(2), r[:2]), lambda r, p: r * tg.tan(tg.atan(p) * 0.99),
]  # fmt: skip
CROSSING = [
    lambda c: -c, lambda c: 2.0 * c + 0.1, tg.sinh, tg.tanh, tg.atan, lambda c: c * (1 + c**2),
    lambda c: c + tg.tanh(c),
    lambda c: tg.reshape(c, (2, 2)).mT.reshape(4), lambda c: c * np.array([1.0, -2.0, 3.0, 4.0]), lambda c: tg.sort(c),
    lambda c: c - tg.mean(c), lambda c: tg.maximum(c, -1.0), lambda c: tg.where(np.arange(N) > 1, c, 1.0), tg.expm1,
]  # fmt: skip
LEAPS = [
    lambda c: tg.atan(1 / c), lambda c: c / abs(c), lambda c: tg.sqrt(c * c) / c, lambda c: tg.tanh(c**-1.0),
    lambda c: tg.sigmoid(tg.reciprocal(c)), lambda c: tg.relu(c) / abs(c), lambda c: tg.tanh(tg.digamma(c)),
    lambda c: tg.divide_or_zero(1.0, c), lambda c: tg.atan(tg.tan(4 * c)),
]  # fmt: skip


@st.composite
def reals(draw, z, depth):
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind == 0:
        return z
    if kind == 1:
        return draw(st.sampled_from(REAL_OF_REAL))(draw(reals(z, depth - 1)))
    if kind == 2:
        return draw(st.sampled_from(PAIRS_OF_REAL))(draw(reals(z, depth - 1)), draw(reals(z, depth - 1)))
    return tg.log(draw(positives(z, depth - 1)))


@st.composite
def positives(draw, z, depth):
    kind = draw(st.integers(0, 2)) if depth > 0 else 0
    if kind == 0:
        return draw(st.sampled_from(POSITIVE_OF_REAL))(draw(reals(z, max(depth - 1, 0))))
    if kind == 1:
        return draw(st.sampled_from(POSITIVE_OF_POSITIVE))(draw(positives(z, depth - 1)))
    return draw(st.sampled_from(PAIRS_OF_POSITIVE))(draw(positives(z, depth - 1)), draw(positives(z, depth - 1)))


def opened_draw():
    mu = tg.Tensor(np.array([0.3, -0.4, 1.1, 0.8]), "mu")
    return mu, tg.Normal(mu, 1.0).rsample(rng=tg.noise(1), name="z")


@settings(max_examples=300)
@given(st.data())
def test_random_programs_whose_denominators_keep_their_sign_are_never_refused(data):
    mu, z = opened_draw()
    p = data.draw(positives(z, 3).filter(lambda p: np.all(np.isfinite(p.value)) and np.all(p.value > 0)))
    r = data.draw(reals(z, 2)) + np.zeros(N)
    use = data.draw(st.sampled_from(USES))
    with np.errstate(all="ignore"):
        tg.gradients(tg.sum(use(r, p + np.zeros(N))), mu)


@given(st.data())
def test_random_programs_that_cross_a_pole_are_always_refused(data):
    mu, z = opened_draw()
    with np.errstate(all="ignore"):
        for step in data.draw(st.lists(st.sampled_from(CROSSING), max_size=3)):
            z = step(z)
        with pytest.raises(tg.InvalidGradientError, match="has a pole that a random value may cross"):
            tg.gradients(tg.sum(data.draw(st.sampled_from(LEAPS))(z)), mu)


RANGED = [op for op in OPS.values() if op.declared.range not in (None, promised, of_draw)]


@pytest.mark.parametrize("op", RANGED, ids=lambda op: op.name)
def test_values_lie_in_the_range_that_an_op_declares(op):
    rng = np.random.default_rng(0)
    for trial in cases_of(op):
        corners = [draw_inputs(op, trial, rng) for _ in range(2)]
        pairs = list(zip(*corners, strict=True))
        smooth = [op.declared.domain_of(i).event_ndim < 2 and a.dtype.kind == "f" for i, (a, b) in enumerate(pairs)]
        for _ in range(10):
            mixed = [a + rng.random(a.shape) * (b - a) if ok else a for (a, b), ok in zip(pairs, smooth, strict=True)]
            node = op.record(tuple(map(tg.Tensor, mixed)), trial.attrs)
            intervals = [
                (np.minimum(a, b), np.maximum(a, b)) if ok else (a, a) for (a, b), ok in zip(pairs, smooth, strict=True)
            ]
            if any(low.dtype.kind == "b" for low, _ in intervals):
                intervals = [(np.asarray(low, float), np.asarray(high, float)) for low, high in intervals]
            low, high = op.declared.range(node, *intervals)
            slack = 1e-12 * (1 + abs(node.value))
            assert np.all(node.value >= low - slack), (node.value, low)
            assert np.all(node.value <= high + slack), (node.value, high)
