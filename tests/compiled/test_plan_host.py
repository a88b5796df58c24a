"""How a plan on NumPy's arrays meets the machine: where arguments lie, in which order products are computed, caches."""

import gc
import weakref

import numpy as np
import pytest
from test_plan import ADAM, CALLS, _assert_same_bits, _images, _model, _runner_of, _training_step

import tinygrad_vae as tg
from tinygrad_vae.compiled import host, lines, loops, turned
from tinygrad_vae.compiled.calls import address
from tinygrad_vae.compiled.lines import request
from tinygrad_vae.core import arrays

# ------------------------------------------------------------------------------------- arguments


@pytest.fixture
def all_where_they_lie(monkeypatch):
    monkeypatch.setattr(host, "LARGE_INPUT", 0)
    monkeypatch.setattr(loops, "LARGE", 0)


def _layouts():
    """The same numbers in arrays that a plan may read where they lie, and in some that it may not."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    locked = x.copy()
    locked.flags.writeable = False
    shifted = np.frombuffer(bytearray(1 + x.nbytes), np.uint8)[1:].view(np.float32).reshape(3, 4)
    shifted[...] = x
    assert not shifted.flags.aligned
    swapped = x.astype(x.dtype.newbyteorder())
    return [x, locked, shifted, swapped, np.arange(24, dtype=np.float32).reshape(3, 8)[:, ::2] / 2, x.copy()]


@pytest.mark.parametrize("compiled", [False, None])
def test_an_argument_is_read_where_it_lies_or_copied_and_the_numbers_are_the_same(compiled, all_where_they_lie):
    def step(w, x):
        return w + tg.mean(x, axis=0), tg.relu(x @ w) * 2.0, x[1:] * 3.0

    run = tg.plan(step, carry=1, compiled=compiled)
    mine = theirs = np.ones(4, np.float32)
    for x in [*_layouts(), *_layouts()[::-1]] * 3:
        kept = x.copy()
        (mine, *found), (theirs, *expected) = run(mine, x), step(theirs, x)
        _assert_same_bits([mine, *found], [theirs, *expected])
        np.testing.assert_array_equal(x, kept)
        if x.flags.writeable:
            x[...] = -1  # what the caller does with it afterwards is no matter


def test_an_argument_that_is_handed_out_again_is_a_copy(all_where_they_lie):
    run = tg.plan(lambda x, y: (x, x.T, y * 2.0))
    for seed in range(CALLS):
        x, y = np.random.default_rng(seed).normal(size=(2, 3, 4))
        same, turned_round, _ = run(x, y)
        same[...] = 0
        turned_round[...] = 0
        assert x.all()


def test_an_argument_that_lies_in_what_the_plan_changes_is_read_as_it_was(all_where_they_lie):
    def step(w, x):
        return w * 0.5 + tg.sum(x), x * 2.0

    run = tg.plan(step, carry=1)
    w, eager = np.ones(4), np.ones(4)
    for _ in range(CALLS):
        expected = step(eager, eager[1:])
        found = run(w, w[1:])
        _assert_same_bits(found, expected)
        w, eager = found[0], expected[0]


def test_loops_are_not_compiled_again_for_an_argument_somewhere_else(all_where_they_lie):
    pytest.importorskip("numba")
    run = tg.plan(lambda x: (x * 2.0 + 1.0) * x, compiled=True)
    for x in [*_layouts(), *_layouts()]:
        run(x)
    (call,) = _runner_of(run).calls
    assert len(call.func.signatures) == 1


# -------------------------------------------------------------------------------------- products


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_the_other_way_round_gives_the_same_numbers(dtype, monkeypatch):
    monkeypatch.setattr(turned, "LEAST", 0)
    monkeypatch.setattr(turned, "_pays", lambda *looks: True)
    run = tg.plan(lambda g, w: (g @ w.T) * 2.0)
    for seed in range(CALLS):
        rng = np.random.default_rng(seed)
        g, w = (rng.normal(size=shape).astype(dtype) for shape in ((5, 7), (11, 7)))
        np.testing.assert_allclose(run(g, w), (g @ w.T) * 2.0, rtol=20 * np.finfo(dtype).eps)
    assert any(turned.is_product(item) and item.function is not np.matmul for item in _runner_of(run).work)


def test_an_order_that_gives_other_bits_or_takes_longer_is_not_taken(monkeypatch):
    looks = [((8, 300), "C", "f"), ((300, 300), "F", "f")]
    pays, product = turned._pays.__wrapped__, turned.product_turned

    def other_bits(scratch, a, b, out):
        product(scratch, a, b, out)
        out[0, 0] = np.nextafter(out[0, 0], np.inf)

    def slow(scratch, a, b, out):
        for _ in range(50):
            product(scratch, a, b, out)

    for worse in (other_bits, slow):
        monkeypatch.setattr(turned, "product_turned", worse)
        assert not pays(*looks)


# ---------------------------------------------------------------------------------------- caches


def test_weights_are_asked_for_after_the_products_that_read_them_and_moments_are_not(monkeypatch):
    monkeypatch.setattr(lines, "LEAST", 2**11)
    step = _training_step(tg.reparameterize)
    run = tg.plan(step, carry=2)
    mine = theirs = (_model(), ADAM.init(_model()))
    for i in range(CALLS):
        images = _images(20, seed=i)
        (*mine, _), (*theirs, _) = run(*mine, images, tg.noise(1).at(i)), step(*theirs, images, tg.noise(1).at(i))
        _assert_same_bits(mine, theirs)
    runner = _runner_of(run)
    asked = {item.out.buffer.start for item in runner.work if getattr(item, "function", None) is request}
    start = address(runner.arena)
    model, state = mine
    places = {path: address(leaf) - start for path, leaf in tg.trees.paths(model)}
    large = {path for path, leaf in tg.trees.paths(model) if leaf.nbytes >= lines.LEAST}
    assert large
    assert all(places[path] in asked for path in large)
    moments = [leaf for part in ("mean", "square") for leaf in tg.trees.leaves(state[part])]
    assert not {address(leaf) - start for leaf in moments} & asked


@pytest.mark.parametrize("took_long", [False, True])
def test_a_request_changes_nothing_and_asks_for_all_lines_only_where_the_first_took_long(took_long, monkeypatch):
    monkeypatch.setattr(lines, "LONG", -1.0 if took_long else np.inf)
    memory = np.frombuffer(np.random.default_rng(0).bytes(6 * lines.LINE), np.uint8).copy()
    before, few, others = memory.copy(), memory[: 2 * lines.LINE : lines.LINE], memory[2 * lines.LINE :: lines.LINE]
    others.flags.writeable = took_long
    request(few, out=others)
    np.testing.assert_array_equal(memory, before)


def test_without_products_nothing_is_asked_for(monkeypatch):
    monkeypatch.setattr(lines, "LEAST", 0)
    run = tg.plan(lambda x: tg.exp(x) * 2.0)
    for _ in range(3):
        run(np.ones(100))
    assert request not in [getattr(item, "function", None) for item in _runner_of(run).work]


# --------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(("platform", "asked"), [("linux", [0]), ("win32", []), ("darwin", [])])
def test_memory_is_given_back_where_the_c_library_can(platform, asked, monkeypatch):
    calls = []

    class Library:
        malloc_trim = staticmethod(calls.append)

    monkeypatch.setattr(arrays.sys, "platform", platform)
    monkeypatch.setattr(arrays.ctypes, "CDLL", lambda name: Library())
    arrays.give_back_memory()
    assert calls == asked


def test_a_plan_keeps_no_graph_once_it_runs():
    """What the two recordings held is let go: the arrays of the nodes in between are freed."""
    made = []

    def step(x):
        y = tg.exp(x)
        made.append(weakref.ref(y))
        return y * 2.0

    run = tg.plan(step)
    for _ in range(3):
        run(np.ones(10))
    gc.collect()
    assert len(made) == 2
    assert not any(ref() for ref in made)
