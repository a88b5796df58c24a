"""Ops that say they are linear: it is so, and a weighed cost may go through them."""

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.ops.cases import cases_of, draw_inputs

LINEAR = [op for op in tg.OPS.values() if op.declared.linear and op.__module__.startswith("tinygrad_vae")]


@pytest.mark.parametrize("op", [op for op in LINEAR if any(True for _ in cases_of(op))], ids=lambda op: op.name)
def test_an_op_is_linear_in_what_it_says(op):
    rng = np.random.default_rng(0)
    for trial in cases_of(op):
        inputs = draw_inputs(op, trial, rng)
        for i, x in enumerate(inputs):
            together = [j for j in op.declared.linear_with(i, len(inputs)) if inputs[j].dtype.kind == "f"]
            if i not in together or x.dtype.kind != "f":
                continue
            pairs = [{j: rng.normal(size=inputs[j].shape) for j in together} for _ in range(2)]

            def at(values, inputs=inputs, trial=trial):
                return op(*[values.get(j, x) for j, x in enumerate(inputs)], **trial.attrs)

            mixed = {j: 2.0 * pairs[0][j] - 3.0 * pairs[1][j] for j in together}
            expected = 2.0 * np.asarray(at(pairs[0])) - 3.0 * np.asarray(at(pairs[1]))
            np.testing.assert_allclose(at(mixed), expected, rtol=1e-9, atol=1e-9)


@tg.elementwise(lambda g, y, x: 2 * g, linear=True)
def twice(x, /):
    """``2 x``, an op of a user's own."""
    return 2 * x


del tg.OPS["twice"]

A = np.eye(4) + 0.1
FOLLOWING = {
    "where": lambda c: tg.where(np.array([True, False, True, False]), c, 0.0),
    "einsum": lambda c: tg.einsum("i,i->", np.arange(4.0), c),
    "cumulative_sum": tg.cumulative_sum,
    "solve": lambda c: tg.linalg.solve(A, c),
    "positive": tg.positive,
    "an op of one's own": twice,
}


@pytest.mark.parametrize("name", FOLLOWING)
def test_a_weighed_cost_goes_through_linear_ops(name):
    f, mu = FOLLOWING[name], tg.Tensor(np.full(4, 2.0), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    found = tg.gradients(tg.sum(f(tg.score_function(z * z))), mu)
    slope = tg.grad(lambda c: tg.sum(f(c)))(np.ones(4))  # of a linear function, the same everywhere
    np.testing.assert_allclose(found, slope * z.value**2 * (z.value - 2.0), rtol=1e-12)


def test_a_weighed_cost_that_a_draw_picks_is_refused():
    mu = tg.Tensor(np.full(4, 2.0), "mu")
    z = tg.Normal(mu, 1.0).sample(rng=tg.noise(0), name="z")
    weighed = tg.score_function(z * z)
    draw = tg.stop_gradient(z)
    for picked in (
        tg.mean(weighed[draw > 0.5]),
        tg.sum(tg.where(draw > 0.5, weighed, 0.0)),
        weighed[tg.argmax(draw)],
        tg.sum(tg.take(weighed, tg.astype(draw > 0.5, np.int64), axis=0)),
    ):
        with pytest.raises(tg.InvalidGradientError, match="uses a cost that an estimator has weighed"):
            tg.gradients(picked, mu)
