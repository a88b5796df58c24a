"""Random steps, planned, give the bits that they give op by op."""

import functools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from steps import one_nan

import tinygrad_vae as tg
from tinygrad_vae.compiled import loops
from tinygrad_vae.core import trees

UNARY = [
    *("(-{a})", "tg.square({a})", "tg.abs({a})", "tg.relu({a})", "tg.sqrt(tg.abs({a}) + 0.5)", "tg.exp(-tg.abs({a}))"),
    *(
        "tg.softplus({a})",
        "tg.sigmoid({a})",
        "tg.tanh({a})",
        "tg.sign({a})",
        "tg.floor({a})",
        "tg.clip({a}, -0.5, 0.7)",
    ),
    *(
        "({a} * 2.0)",
        "(1 - {a})",
        "({a} / 3)",
        "({a} + 0.0)",
        "({a} - tg.mean({a}, axis=0))",
        "tg.cumulative_sum({a}, axis=0)",
    ),
    *(
        "({a} + tg.sum({a}))",
        "({a} * tg.max({a}, axis=-1, keepdims=True))",
        "({a} - tg.logsumexp({a}, axis=-1, keepdims=True))",
    ),
    *(
        "tg.flip({a}, axis=0)",
        "tg.reshape(tg.reshape({a}, (-1,)), {a}.shape)",
        "tg.astype(tg.astype({a}, np.float32), {a}.dtype)",
    ),
    *(
        "tg.sort({a}, axis=-1)",
        "tg.roll({a}, 1, axis=0)",
        "tg.stop_gradient({a})",
        "tg.concat([{a}[1:], {a}[:1]], axis=0)",
    ),
]
BINARY = [
    *("({a} + {b})", "({a} - {b})", "({a} * {b})", "({a} / (tg.abs({b}) + 1.0))", "tg.maximum({a}, {b})"),
    *("tg.where({a} > {b}, {a}, {b})", "tg.where({a} > 0.1, {b}, 2.0)", "({a} * ({b} <= 0.5))", "({a} * ({b} == {a}))"),
    *(
        "tg.where(m, {a}, {b})",
        "tg.where(m > 0.5, {a}, 1.0)",
        "({a} + (m == 1))",
        "({a} * (m < 2) + (m <= 0.5))",
        "({a} - m)",
    ),
    *("({a} + row)", "({b} * row - {a})", "({a} * s + {b})", "({a} + tg.mean({b}, axis=-1, keepdims=True))"),
]
SQUARE = [
    "tg.matmul({a}, tg.matrix_transpose({b}))",
    "({a} @ {b}.mT)",
    "tg.matmul(tg.permute_dims({a}, T), tg.permute_dims(tg.matrix_transpose({b}), T))",
]
SHAPES = [(5,), (4, 4), (1, 7), (6, 5), (3, 3, 3), (2, 3, 4), (33, 70)]
LAYOUTS = ["C", "F", "permuted", "reversed", "broadcast", "sliced", "C", "C"]


@st.composite
def steps(draw):
    """The text of a step with carried a tree of x and y, which reads z, a row, a mask, a number and noise."""
    shape = draw(st.sampled_from(SHAPES))
    parts = ["x", "y", "z", "e"]
    kinds = [*UNARY, *BINARY, *BINARY, *(SQUARE if shape[-1] == shape[-2:][0] and len(shape) > 1 else [])]
    for _ in range(draw(st.integers(2, 9))):
        a, b = draw(st.sampled_from(parts)), draw(st.sampled_from(parts))
        parts.append(draw(st.sampled_from(kinds)).format(a=a, b=b) if len(a) + len(b) < 300 else a)
    layouts = [draw(st.sampled_from(LAYOUTS)) for _ in range(4)]
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return shape, parts[-3:], layouts, dtype, draw(st.booleans()), draw(st.integers(0, 2**32 - 1))


def laid_out(x, layout):
    """The same numbers in another layout."""
    if layout == "F":
        return np.asfortranarray(x)
    if layout == "permuted":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1, 0)
    if layout == "reversed":
        return np.ascontiguousarray(x[::-1])[::-1]
    if layout == "broadcast":
        return np.broadcast_to(x[:1], x.shape)
    if layout == "sliced":
        wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1] + 1), x.dtype)[..., 1::2]
        wide[...] = x
        return wide
    return x


def step_of(shape, parts, differentiate):
    codes = [compile(part, "step", "eval") for part in parts]

    def step(state, z, row, m, s, rng):
        def values(state):
            noise = tg.Normal(tg.tanh(tg.mean(state["x"])), 1.0).rsample(shape, rng=rng)
            drawn = z if differentiate else noise  # a gradient past a jump of a draw would be refused
            names = {"tg": tg, "np": np, **state, "z": z, "e": drawn, "row": row, "m": m, "s": s}
            names["T"] = (1, 0, 2) if len(shape) == 3 else (1, 0)
            return *(eval(code, names) for code in codes), noise

        def loss(state):
            return tg.mean(functools.reduce(lambda a, b: a * 0.5 + b, values(state)))

        if differentiate:
            value, gradient = tg.value_and_grad(loss)(state)
            return trees.map_leaves(lambda w, g: w - 0.1 * g, state, gradient), value
        *new, noise = values(state)
        return {"x": tg.astype(new[0], state["x"].dtype), "y": tg.astype(new[1], state["x"].dtype)}, (new[2], noise)

    return step


def check(example, compiled):
    shape, parts, layouts, dtype, differentiate, seed = example
    step, rng = step_of(shape, parts, differentiate), np.random.default_rng(seed)
    run = tg.plan(step, carry=1, compiled=compiled)

    def array(shape, layout="C"):
        return laid_out(rng.normal(size=shape).astype(dtype), layout)

    mine = theirs = {"x": array(shape, layouts[0]), "y": array(shape, layouts[1])}
    for i in range(5):
        others = array(shape, layouts[2]), array(shape[-1:]), laid_out(rng.random(shape) < 0.5, layouts[3])
        others = *others, np.asarray(rng.normal(), dtype)
        with np.errstate(all="ignore"):
            mine, found = run(mine, *others, tg.noise(seed).at(i))
            theirs, expected = tg.values(step(theirs, *others, tg.noise(seed).at(i)))
        for a, b in zip(trees.leaves([mine, found]), trees.leaves([theirs, expected]), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert one_nan(np.asarray(a)).tobytes() == one_nan(np.asarray(b)).tobytes(), (i, parts)


ANY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


@settings(max_examples=200, **ANY)
@given(steps())
def test_any_step_is_run_bit_for_bit(example):
    check(example, compiled=False)


@settings(max_examples=8, **ANY)
@given(steps())
def test_any_step_is_run_bit_for_bit_in_loops(monkeypatch, example):
    pytest.importorskip("numba")
    monkeypatch.setattr(loops, "LARGE", 0)
    check(example, compiled=True)


@pytest.mark.long
@settings(max_examples=5000, **ANY)
@given(steps())
def test_ten_thousand_steps(monkeypatch, example):
    monkeypatch.setattr(loops, "LARGE", 0)
    check(example, compiled=False)
    pytest.importorskip("numba")
    check(example, compiled=True)
