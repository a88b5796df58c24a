"""Finding the op that made the first NaN or infinity."""

import inspect

import numpy as np
import pytest

import tinygrad_vae as tg


def line_here():
    return inspect.currentframe().f_back.f_lineno


def test_the_first_infinity_is_named_with_its_op_its_line_and_its_inputs():
    x = tg.Tensor(np.array([1.0, 0.0, 2.0]), "x")
    with np.errstate(divide="ignore"), tg.watch_numerics(), pytest.raises(FloatingPointError) as caught:
        y = tg.exp(x) - 1
        line = line_here() + 1
        1 / y
    message = str(caught.value)
    assert message.startswith(f"divide gave 1 infinite of 3 elements, at test_numerics.py:{line}")
    assert "y: a float64 array of shape (3,), from 0 to 6.38906" in message


def test_a_nan_in_a_gradient_is_found_too():
    x = tg.Tensor(np.array([0.0, 1.0]))
    cost = tg.sum(tg.sqrt(x) * 0.0)
    with np.errstate(divide="ignore", invalid="ignore"), tg.watch_numerics():
        with pytest.raises(FloatingPointError, match="divide gave 1"):
            tg.gradients(cost * cost, x, record=True)


def test_what_came_in_broken_is_said_to_have_been_so():
    with tg.watch_numerics(), pytest.raises(FloatingPointError, match=r"x: .*from 1 to 1, 1 NaN already"):
        tg.exp(np.array([np.nan, 1.0]))


def test_outside_of_the_block_nothing_is_watched_even_after_an_error():
    before = tg.Op.__call__, tg.Op.record
    with pytest.raises(FloatingPointError), tg.watch_numerics():
        tg.exp(np.array([np.inf]))
    assert (tg.Op.__call__, tg.Op.record) == before
    assert np.isinf(tg.exp(np.array([np.inf])))


def test_blocks_that_overlap_watch_until_the_last_one_ends():
    first, second = tg.watch_numerics(), tg.watch_numerics()
    before = tg.Op.__call__, tg.Op.record
    with np.errstate(divide="ignore"):
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        with pytest.raises(FloatingPointError, match="log gave 1 infinite"):
            tg.log(np.zeros(1))
        second.__exit__(None, None, None)
        tg.log(np.zeros(1))
    assert (tg.Op.__call__, tg.Op.record) == before
