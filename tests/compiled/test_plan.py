"""A plan gives what its step gives, bit for bit, call after call, or says why it cannot."""

import copy
import dataclasses
import functools
import gc
import pickle
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from steps import ADAM, CALLS, agrees, assert_same_bits, binary_images, new_model, program_of, training_step

import tinygrad_vae as tg
from tinygrad_vae.compiled.plan import MOST_KINDS, PlanError
from tinygrad_vae.core import NoiseStream, trees
from tinygrad_vae.ops.cases import cases_of, draw_inputs

OWN = [op for op in tg.OPS.values() if op.__module__.startswith("tinygrad_vae.ops.")]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("op", OWN, ids=lambda op: op.name)
def test_every_op_is_run_bit_for_bit(op, dtype):
    for trial in cases_of(op):
        rng = np.random.default_rng(0)
        run = tg.plan(functools.partial(op, **trial.attrs))
        for _ in range(CALLS):
            drawn = draw_inputs(op, trial, rng)
            inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in drawn]
            assert_same_bits(run(*inputs), op(*inputs, **trial.attrs))


@pytest.mark.parametrize("estimator", [tg.reparameterize, tg.score_function])
def test_training_is_the_same_bit_for_bit_with_fresh_noise_in_every_step(estimator):
    step = training_step(estimator)
    run = tg.plan(step, carry=2)
    planned = eager = (new_model(), ADAM.init(new_model()))
    streams = tg.noise(1), tg.noise(1)
    losses = []
    for i in range(8):
        images = binary_images(5 if i % 4 == 3 else 20, seed=i)  # the last batch of an epoch is smaller
        *planned, loss = run(*planned, images, streams[0])
        *eager, expected = step(*eager, images, streams[1])
        assert_same_bits([planned, loss], [eager, expected])
        losses.append(loss)
    assert len({float(loss) for loss in losses}) == len(losses)
    assert streams[0] == streams[1]


def test_gradients_that_are_not_recorded_are_told_how_to_be():
    adam, w = tg.optim.Adam(), {"w": np.ones(3)}

    def step(w, state):
        recorded = tg.wrap(w)
        return adam.update(w, tg.gradients(tg.sum(recorded["w"] ** 2), recorded), state)

    with pytest.raises(TypeError, match=r"Adam.update: .* found a float64 Tensor .* in a plan, .* tg.grad"):
        tg.plan(step, carry=2)(w, adam.init(w))


def test_a_run_allocates_nothing_that_stays_and_little_that_goes():
    run = tg.plan(training_step(), carry=2)
    model, state, rng = new_model(), ADAM.init(new_model()), tg.noise(1)
    images = binary_images(500, 0)
    for _ in range(3):
        model, state, _ = run(model, state, images, rng)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            model, state, _ = run(model, state, images, rng)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < images.nbytes / 2  # not even one array of the size of the batch
    assert after - before < 10_000


def test_the_recorded_graph_is_let_go():
    nodes = []

    def step(x):
        y = tg.exp(x)
        nodes.append(weakref.ref(y))
        return {"sine": tg.sin(y)}

    run = tg.plan(step)
    for _ in range(2):
        run(np.ones(3))
    gc.collect()
    assert [node() for node in nodes] == [None, None]


def test_what_is_carried_changes_in_place_and_all_else_is_a_copy():
    def step(total, x):
        total = total + x
        return total, total * 2

    run = tg.plan(step, carry=1)
    total, doubles = np.zeros(3), []
    for _ in range(CALLS):
        total, double = run(total, np.ones(3))
        doubles.append(double)
    kept = total
    total, _ = run(total, np.ones(3))
    assert total is kept
    np.testing.assert_array_equal(kept, np.full(3, CALLS + 1))
    np.testing.assert_array_equal([d[0] for d in doubles], 2 * np.arange(1, CALLS + 1))


def test_what_was_handed_out_may_come_back_with_other_parts():
    def step(state, x):
        return {"total": state["total"] + x, "parts": [state["parts"][0] * 2, *state["parts"][1:]]}, x * 2

    run = tg.plan(step, carry=1)
    mine = theirs = {"total": np.zeros(3), "parts": [np.ones(3), np.full(3, 5.0)]}
    for i in range(2 * CALLS):
        (mine, a), (theirs, b) = run(mine, np.full(3, 1.0 * i)), step(theirs, np.full(3, 1.0 * i))
        assert_same_bits([mine, a], [theirs, b])
        if i == CALLS:
            for state in (mine, theirs):
                state["total"] = np.full(3, 100.0)
                state["parts"][0] = np.full(3, 0.5)
        elif i == CALLS + 2:
            for state in (mine, theirs):
                state["total"] = np.zeros((1, 3))  # of another shape


def test_what_was_handed_out_may_be_emptied_and_come_back_in_another_dict():
    run, state = tg.plan(lambda state, x: ({"a": state["a"] + x},), carry=1), {"a": np.zeros(2)}
    for _ in range(CALLS):
        (found,) = run(state, np.ones(2))
        state = {"a": found.pop("a")}
    np.testing.assert_array_equal(state["a"], CALLS)


def test_arguments_may_lie_in_what_the_plan_returned():
    def step(a, b):
        return a + b, a - b

    run = tg.plan(step, carry=2)
    mine = theirs = np.arange(4.0), np.ones(4)
    for _ in range(CALLS):
        mine, theirs = run(*mine), step(*theirs)
        assert_same_bits(mine, theirs)
        mine, theirs = mine[::-1], theirs[::-1]
    mine, theirs = (mine[0][::-1], mine[0]), (theirs[0][::-1], theirs[0])
    assert_same_bits(run(*mine), step(*theirs))


def test_a_carried_result_may_be_an_argument_or_a_constant():
    constant = np.full(3, 7.0)

    def step(a, b, c):
        return b, a, constant, c + a

    run = tg.plan(step, carry=3)
    mine = theirs = tuple(np.random.default_rng(0).normal(size=(3, 3)))
    for _ in range(CALLS):
        *mine, sum_of_mine = run(*mine)
        *theirs, sum_of_theirs = step(*theirs)
        assert_same_bits([mine, sum_of_mine], [theirs, sum_of_theirs])
    np.testing.assert_array_equal(constant, 7.0)


def test_what_a_carried_argument_was_may_be_a_result():
    def step(a, b):
        return a * 2, b + a, a, tg.reshape(b, (3, 1)), a[1:]

    run = tg.plan(step, carry=2)
    mine = theirs = np.arange(3.0), np.ones(3)
    for _ in range(CALLS):
        *mine, a, b, c = run(*mine)
        *theirs, x, y, z = step(*theirs)
        assert_same_bits([mine, a, b, c], [theirs, x, y, z])


def test_an_argument_that_is_read_after_its_successor_is_known():
    def step(p, x):
        new = tg.exp(-p) + x
        return new, tg.sum(tg.sin(p) * new), p + 0

    run = tg.plan(step, carry=1)
    mine = theirs = np.linspace(0, 1, 50)
    for i in range(CALLS):
        mine, *rest = run(mine, np.full(50, i))
        theirs, *expected = step(theirs, np.full(50, i))
        assert_same_bits([mine, rest], [theirs, expected])


def test_streams_below_a_stream_and_permutations_are_drawn_again():
    def step(w, rng):
        left = tg.Normal(w, 1.0).rsample(rng=rng.at("left"))
        below = rng.at("right", 3)
        right = tg.Exponential(tg.exp(w)).rsample((2,), rng=below) + tg.Normal(w, 2.0).rsample(rng=below)
        return left, right, w[rng.permutation(4)]

    run = tg.plan(step)
    mine, theirs = tg.noise(3), tg.noise(3)
    for i in range(CALLS):
        w = np.random.default_rng(i).normal(size=4)
        assert_same_bits(run(w, mine.at(i)), step(w, theirs.at(i)))


def test_a_stream_of_another_kind_is_asked_in_every_call():
    class Counting(NoiseStream):
        def normal(self, shape=(), dtype=np.float64):
            self.drawn += 1
            return np.full(shape, self.drawn, dtype)

    run, stream = tg.plan(lambda w, rng: tg.Normal(w, 1.0).rsample(rng=rng)), Counting(0)
    for i in range(CALLS):
        np.testing.assert_array_equal(run(np.zeros(2), stream), [i + 1, i + 1])


def test_layouts_other_than_rows_first():
    def step(a, b):
        return a @ b + a.T if isinstance(a, np.ndarray) else a @ b + tg.matrix_transpose(a)

    run = tg.plan(step)
    for i in range(CALLS):
        a, b = np.random.default_rng(i).normal(size=(2, 9, 9))
        assert_same_bits(run(a.T, b[::-1, ::-1]), step(a.T, b[::-1, ::-1]))


def test_a_result_without_tensors_and_an_argument_that_is_not_read():
    run = tg.plan(lambda x, unread, word: {"word": word, "one": np.ones(2), "x": x})
    for i in range(CALLS):
        found = run(np.full(3, i), np.zeros(2), "yes")
        assert found["word"] == "yes"
        assert_same_bits(found, {"word": "yes", "one": np.ones(2), "x": np.full(3, i)})


def test_an_op_that_looks_at_an_element_is_called_whole_and_may_take_another_branch():
    @tg.op(lambda g, y, x: g)
    def doubled_if_positive(x, /):
        return x * 2 if x[0] > 0 else x + 0

    try:
        run = tg.plan(lambda x: doubled_if_positive(x) + 1.0)
        for sign in (1, 1, 1, -1, 1, -1):
            x = sign * np.arange(1.0, 4.0)
            assert_same_bits(run(x), doubled_if_positive(x) + 1.0)
    finally:
        tg.OPS.pop("doubled_if_positive")


def test_a_constant_that_is_an_argument_too_stays_a_constant():
    x = np.arange(3.0)
    run = tg.plan(lambda y: (x * y, y))
    for _ in range(2):
        _, same = run(x)
        same += 5.0  # the caller's own
        np.testing.assert_array_equal(x, np.arange(3.0))
    for y in (np.ones(3), np.full(3, 2.0)):
        assert_same_bits(run(y), (x * y, y))


def test_results_of_the_calls_that_record_may_be_edited():
    constant, table = np.ones(3), np.zeros(3)

    def step(x):
        y = x + table
        return {"y": y, "again": y, "part": y[1:], "constant": constant, "leaf": tg.Tensor(table), "x": x}

    run, x = tg.plan(step), np.arange(3.0)
    expected = {name: np.array(tg.values(a)) for name, a in step(x).items()}
    for _ in range(CALLS):
        found = run(x)
        assert_same_bits(found, expected)
        for name in found:
            found[name] += 7.0
            for other in found.keys() - {name}:
                assert not np.shares_memory(found[name], found[other])
    np.testing.assert_array_equal(x, np.arange(3.0))


@dataclasses.dataclass
class Editable:
    """A model that may be edited, with an exponent that its text does not show."""

    w: object
    power: int = trees.static(default=2, repr=False)


def test_models_that_are_edited_between_two_calls_are_seen():
    def step(model, pair, x):
        w = model.w - 0.1 * x
        return Editable(w, model.power), (pair[0] + 1.0, {"a": pair[1]["a"] * 2.0}), tg.sum(w**model.power)

    run, x = tg.plan(step, carry=2), np.arange(3.0)
    mine = theirs = Editable(np.ones(3)), (np.zeros(2), {"a": np.ones(2)})
    for i in range(2 * CALLS):
        (*mine, a), (*theirs, b) = run(*mine, x), step(*theirs, x)
        assert_same_bits([mine, a], [theirs, b])
        if i in (3, 5):
            for model, pair in (mine, theirs):
                model.w = np.full(3, 10.0 * i)
                pair[1]["a"] = np.full(2, -1.0)


def test_models_that_differ_in_what_their_text_does_not_show_have_another_plan():
    run = tg.plan(lambda model: model.w**model.power)
    for power in (2, 2, 2, 3, 3, 3, 2):
        np.testing.assert_array_equal(run(Editable(np.full(2, 3.0), power)), np.full(2, 3.0**power))


def test_ops_of_one_name_and_long_arrays_that_differ_in_the_middle_are_told_apart():
    def shifted(table):
        @tg.elementwise(lambda g, y, x: g)
        def shifted_by_a_table(x, /):
            return x + table

        tg.OPS.pop("shifted_by_a_table")
        return shifted_by_a_table

    @tg.elementwise(lambda g, y, x, *, table: g)
    def shifted_by(x, /, *, table):
        return x + table

    try:
        ones = np.ones(3000)
        other = ones.copy()
        other[1500] = 5.0
        first, second = shifted(ones), shifted(other)

        def step(x):
            return first(x) + second(x), shifted_by(x, table=ones) + shifted_by(x, table=other)

        run = tg.plan(step)
        for i in range(CALLS):
            x = np.full(3000, 1.0 * i)
            assert_same_bits(run(x), step(x))
    finally:
        tg.OPS.pop("shifted_by")


def test_an_op_that_works_in_place_leaves_alone_what_was_computed_before():
    def step(x, w, b):
        average = x * (0.75 / (1 - 0.75))
        return x @ w, tg.linear(x, w, b), average, tg.moving_average(x, x, decay=0.75), tg.sqrt(x), x @ w

    x, w = np.ones((2, 3)), np.ones((3, 2))
    agrees(step, *[(x, w, np.zeros(2))] * 3, (x * 2, w, np.ones(2)), (x * 3, w, np.full(2, 5.0)))

    def adaptive(p, mean, square, number):
        return tg.sqrt(square), tg.optim.adaptive_step(p, mean, square, number, number)

    agrees(adaptive, *[(np.ones(3), np.ones(3), np.full(3, 1.0 * i), np.asarray(0.5)) for i in range(1, 6)])


def test_carried_arguments_of_another_layout():
    fortran, rng = np.asfortranarray, np.random.default_rng(0)

    def step(w, x):
        return w - 0.1 * x, tg.sum(w)

    calls = [(fortran(np.zeros((2, 3))), fortran(np.ones((2, 3))))] * 3
    calls += [(fortran(rng.normal(size=(2, 3))), rng.normal(size=(2, 3))) for _ in range(4)]
    agrees(step, *calls, carry=1)
    wide = rng.normal(size=(57, 33))
    agrees(lambda x: tg.sum(x), *[(wide,)] * 3, (np.ascontiguousarray(wide.T).T,), (wide.T,), (wide.T,), (wide.T,))


def test_a_broadcast_is_added_up_as_it_is_without_a_plan():
    def step(b, x, t):
        return tg.value_and_grad(lambda b: tg.sum(tg.mean(x + b, axis=0) * t))(b)

    rng = np.random.default_rng(0)
    agrees(step, *[tuple(rng.normal(size=n) for n in (33, (57, 33), 33)) for _ in range(5)])


@pytest.mark.parametrize("optimizer", [tg.optim.SGD(0.1), ADAM])
def test_a_parameter_whose_gradient_is_constant_is_trained_too(optimizer):
    def step(p, state, x):
        value, g = tg.value_and_grad(lambda p: tg.mean(x * p["w"]) ** 2.0 + tg.sum(p["b"]))(p)
        return *optimizer.update(p, g, state), value

    run, mine = tg.plan(step, carry=2), {"w": np.ones(3), "b": np.ones(2), "unused": np.ones(2)}
    mine, theirs = (mine, optimizer.init(mine)), (mine, optimizer.init(mine))
    for i in range(CALLS):
        (*mine, a), (*theirs, b) = run(*mine, np.full(3, 1.0 * i)), step(*theirs, np.full(3, 1.0 * i))
        assert_same_bits([mine, a], [theirs, b])


def test_numbers_that_an_argument_lends_to_what_a_plan_keeps_are_refused():
    buffer = np.ones(3)
    run = tg.plan(lambda x: x * tg.values(x)[:1])
    run(buffer)
    buffer[:] = 2.0
    with pytest.raises(PlanError, match="multiply: y was a float64 array"):
        run(buffer)
    with pytest.raises(PlanError, match="decay is the array of input 2"):
        tg.plan(lambda a, x, d: tg.moving_average(a, x, decay=tg.values(d)))(np.ones(2), np.zeros(2), np.asarray(0.5))
    with pytest.raises(PlanError, match="cannot see draws from a generator"):
        tg.plan(lambda x, rng: x * rng.generator().standard_normal(2))(np.ones(2), tg.noise(0))
    with pytest.raises(PlanError, match="a noise stream stands inside an argument"):
        tg.plan(lambda s: tg.Normal(0.0, 1.0).sample((2,), rng=s["rng"]))({"rng": tg.noise(0)})


def test_a_constant_that_the_step_edits_is_refused():
    constant = np.zeros(2)

    def step(x):
        constant[:] += 1.0
        return constant * x

    run = tg.plan(step)
    run(np.ones(2))
    with pytest.raises(PlanError, match="multiply: x was a float64 array"):
        run(np.ones(2))


def test_a_constant_that_is_a_result_or_a_value_is_not_the_callers():
    constant = np.array([1.0, -1.0, 2.0])

    def step(x):
        m = tg.exp(tg.Tensor(constant))
        return m, x * m.value, tg.surrogate(constant, x)

    run = tg.plan(step)
    for _ in range(CALLS):
        found = run(np.ones(3))
        assert_same_bits(found, step(np.ones(3)))
        for x in found:
            x *= 0.0
    np.testing.assert_array_equal(constant, [1.0, -1.0, 2.0])


def test_ops_of_users_that_look_at_numbers_or_edit_them_are_called_whole():
    @tg.elementwise(lambda g, y, x: g)
    def cleaned(x, /):
        y = x * 1.0
        np.putmask(y, y < 0, 0.0)
        return np.nan_to_num(y, copy=False)

    @tg.op(lambda g, y, x: g)
    def less_the_largest(x, /):
        i = int(np.argmax(x))
        return x - x[i : i + 1] if np.count_nonzero(x) > 1 else x * 2.0

    @tg.elementwise(lambda g, y, x: g)
    def doubled(x, /):
        return np.ldexp(x, 1)

    try:
        for op in (cleaned, less_the_largest, doubled):
            calls = np.ones(3), np.ones(3), -np.ones(3), np.array([1.0, np.nan, 3.0]), np.array([0.0, 0.0, 4.0])
            agrees(lambda x, op=op: op(x) + 1.0, *[(x,) for x in calls])
    finally:
        for name in ("cleaned", "less_the_largest", "doubled"):
            tg.OPS.pop(name)


@pytest.mark.parametrize("dtype", [np.float16, np.longdouble])
def test_floats_that_are_not_of_the_two_usual_sizes(dtype):
    run, rng = tg.plan(lambda x: x * 2.0 + x), np.random.default_rng(0)
    for _ in range(CALLS):
        x = rng.normal(size=5000).astype(dtype)
        np.testing.assert_array_equal(run(x), x * 2.0 + x)  # some of the bits of a longdouble mean nothing


def test_what_was_handed_out_may_be_made_read_only():
    run, w = tg.plan(lambda w, x: (w + x,), carry=1), np.zeros(3)
    for _ in range(CALLS):
        (w,) = run(w, np.ones(3))
    w.flags.writeable = False
    for i in range(CALLS):
        (found,) = run(np.full(3, 1.0 * i), np.ones(3))
        np.testing.assert_array_equal(found, np.full(3, 1.0 + i))


def test_threads_take_turns():
    run = tg.plan(lambda x: tg.sum(tg.exp(x) * tg.sin(x)))
    xs = np.random.default_rng(0).normal(size=(200, 2000))
    for x in xs[:3]:
        run(x)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, xs))
    np.testing.assert_array_equal(found, [np.sum(np.exp(x) * np.sin(x)) for x in xs])


def test_a_negative_number_of_carried_results_is_refused():
    with pytest.raises(ValueError, match="a non-negative number; found -1"):
        tg.plan(lambda x: x, carry=-1)


# -------------------------------------------------------------------------------------- refusals


def _runs_twice(step, first, second, **options):
    run = tg.plan(step, **options)
    run(*first)
    run(*second)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda x: x * 2 if x.value[0] > 0 else tg.exp(x), "an op was multiply, and then exp"),
        (lambda x: x * float(x.value[0]), r"multiply: y was 1\.0, and then -1\.0"),
        (lambda x: x * (x.value + 1), "multiply: y was a float64 array .*, and then a float64 array"),
        (lambda x: x if x.value[0] > 0 else x * 2, "the result was input 0, and then multiply"),
        (lambda x: tg.sum(x, axis=0 if x.value[0] > 0 else None), "sum: axis was 0, and then None"),
    ],
)
def test_a_step_that_hangs_on_a_value_is_refused(step, words):
    with pytest.raises(PlanError, match=words):
        _runs_twice(step, [np.ones(2)], [-np.ones(2)])


def test_a_draw_that_never_enters_the_graph_is_refused():
    def step(x, rng):
        return x * (tg.Normal(0.0, 1.0).sample((2,), rng=rng) > 0)

    with pytest.raises(PlanError, match=r"draws normal\(\(2,\), .*no result depends on that through the graph"):
        tg.plan(step)(np.ones(2), tg.noise(0))


def test_tensors_are_refused():
    with pytest.raises(PlanError, match=r"a plan takes arrays, found a float64 Tensor of shape \(2,\)"):
        tg.plan(tg.exp)(tg.Tensor(np.ones(2)))


def test_carried_results_are_like_their_arguments():
    with pytest.raises(PlanError, match=r"result 0 is a float64 array of shape \(\), the argument .* \(2,\)"):
        tg.plan(lambda x: (tg.sum(x),), carry=1)(np.ones(2))
    with pytest.raises(PlanError, match="result 0 is not a tree like argument 0"):
        tg.plan(lambda x: (x["a"],), carry=1)({"a": np.ones(2)})
    with pytest.raises(PlanError, match="1 arguments and 1 results, too few"):
        tg.plan(lambda x: x, carry=1)(np.ones(2))


def test_a_number_that_changes_in_every_call_is_refused_in_the_end():
    run = tg.plan(lambda x, rate: x * rate)
    for i in range(MOST_KINDS):
        run(np.ones(2), float(i))
    with pytest.raises(PlanError, match="pass a number that changes from call to call as an array"):
        run(np.ones(2), 0.5)


def test_models_of_another_structure_have_another_plan():
    run = tg.plan(lambda layer, x: layer(x))
    x = -np.ones((1, 2))
    for activation in ("relu", "tanh"):
        layer = tg.nn.MLP.init((2, 2), rng=tg.noise(0), activation=activation, trunk=True, dtype=np.float64)
        for _ in range(CALLS):
            assert_same_bits(run(layer, x), layer(x))


def test_an_error_inside_the_step_comes_out_and_the_next_call_is_the_first():
    run = tg.plan(lambda x, y: x @ y)
    with pytest.raises(ValueError, match="matmul"):
        run(np.ones((2, 3)), np.ones((2, 3)))
    for _ in range(CALLS):
        assert_same_bits(run(np.ones((2, 3)), np.ones((3, 2))), np.full((2, 2), 3.0))


def test_a_plan_tells_what_it_is():
    run = tg.plan(training_step(), carry=2)
    assert repr(run) == "<plan of step: nothing compiled yet>"
    arguments = new_model(), ADAM.init(new_model()), binary_images(5, 0), tg.noise(0)
    for _ in range(2):
        run(*arguments)
    assert "calls in" in repr(run)


def test_a_plan_keeps_its_arena_and_nothing_of_what_it_was_made_from():
    def step(x):
        def chain(x):
            for _ in range(30):
                x = tg.sin(x * 0.9 + 0.1)
            return tg.sum(x)

        return tg.value_and_grad(chain)(x)

    run, x = tg.plan(step, compiled=False), np.ones(100_000)
    for _ in range(2):  # whatever is made once, in NumPy too, is made by then
        tg.plan(step, compiled=False)(x)
    gc.collect()
    tracemalloc.start()
    for _ in range(3):
        run(x)
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < program_of(run).arena.nbytes + x.nbytes  # the arrays of the chain would be some sixty times x


def _total(total, x):
    return (total + x,)


def test_a_step_can_be_copied_and_each_copy_has_its_own_memory():
    run = tg.plan(_total, carry=1)
    for _ in range(3):
        (a,) = run(np.zeros(2), np.ones(2))
    for other in (copy.copy(run), copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        b = np.full(2, 10.0)
        for _ in range(3):
            (b,) = other(b, np.ones(2))
        np.testing.assert_array_equal(b, 13.0)
    np.testing.assert_array_equal(a, 1.0)


def test_a_step_is_watched_inside_watch_numerics():
    run = tg.plan(lambda w, x: (w + 1.0, tg.log(x)), carry=1)
    w, good = np.zeros(1), np.ones(1)
    for _ in range(3):
        w, _ = run(w, good)
    with tg.watch_numerics(), np.errstate(all="ignore"):
        w, _ = run(w, good)
        with pytest.raises(FloatingPointError, match="log gave 1 infinite"):
            run(w, np.zeros(1))
    w, found = run(w, good)
    assert (w, found) == (5.0, 0.0)
