"""What a recorded step may draw."""

import numpy as np
import pytest
from steps import CALLS, assert_same_bits

import tinygrad_vae as tg
from tinygrad_vae.compiled.plan import PlanError


def test_enumeration_and_measure_valued_derivatives_run_inside_a_step():
    def enumerated(p, rng):
        def cost(p):
            b = tg.Bernoulli(probs=p).sample(rng=rng.at("b"))
            return tg.estimate(tg.sum((b - 0.4) ** 2), {b: "enumeration"})

        return tg.value_and_grad(cost)(p)

    def measured(p, rng):
        def cost(p):
            z = tg.Normal(p, 1.0).sample(rng=rng.at("z"))
            return tg.mean(tg.estimate((z - 0.4) ** 2, {z: tg.MeasureValued(rng.at("pair"))}))

        return tg.value_and_grad(cost)(p)

    for step in (enumerated, measured):
        run, streams = tg.plan(step), (tg.noise(1), tg.noise(1))
        for i in range(CALLS):
            p = np.full(3, 0.1 * (i + 1))
            assert_same_bits(run(p, streams[0]), step(p, streams[1]))
            assert streams[0] == streams[1]


@pytest.mark.parametrize(
    "leak",
    [
        lambda z: float(z.value[0]),
        lambda z: 1.0 if z.value[0] > 0.8 else 2.0,
        lambda z: 1.0 if z.value[0] > z.value[1] else 2.0,
        lambda z: z.value * 1.0,
    ],
)
def test_a_draw_that_is_read_outside_the_graph_is_refused(leak):
    run = tg.plan(lambda x, rng: x * leak(tg.Normal(x * 0.0, 1.0).sample(rng=rng)))
    with pytest.raises(PlanError, match="no result depends on that through the graph"):
        run(np.ones(2), tg.noise(0))
