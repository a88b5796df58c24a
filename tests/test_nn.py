"""Layers: what they compute, how they begin, what they refuse."""

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.nn import ACTIVATIONS, MLP, Linear


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_is_an_affine_map_in_its_own_dtype(dtype):
    layer = Linear.init(3, 4, rng=tg.noise(0), dtype=dtype)
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(dtype)
    assert layer(x).dtype == dtype
    np.testing.assert_array_equal(layer(x), x @ layer.weight + layer.bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_output_of_an_mlp_is_linear_and_that_of_a_trunk_is_activated(activation):
    mlp = MLP.init((3, 4, 5), rng=tg.noise(0), activation=activation)
    trunk = MLP(mlp.layers, activation, trunk=True)
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    f = ACTIVATIONS[activation]
    first, second = mlp.layers
    np.testing.assert_array_equal(mlp(x), second(f(first(x))))
    np.testing.assert_array_equal(trunk(x), f(second(f(first(x)))))


def test_the_last_layer_begins_with_the_gain_of_what_follows_it():
    mlp, trunk = (MLP.init((300, 300, 300), rng=tg.noise(0), trunk=trunk, dtype=np.float64) for trunk in (False, True))
    np.testing.assert_array_equal(mlp.layers[0].weight, trunk.layers[0].weight)
    np.testing.assert_allclose(trunk.layers[1].weight, np.sqrt(2) * mlp.layers[1].weight, rtol=1e-12)


def test_recording_gives_the_same_bits():
    mlp = MLP.init((3, 4, 5), rng=tg.noise(0))
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    assert isinstance(mlp(x), np.ndarray)
    np.testing.assert_array_equal(tg.wrap(mlp)(x).value, mlp(x))


def test_weights_begin_with_variance_gain_over_inputs():
    n_in, n_out = 300, 400
    for gain in (1.0, 2.0):
        w = Linear.init(n_in, n_out, rng=tg.noise(0), gain=gain, dtype=np.float64).weight * np.sqrt(n_in / gain)
        assert abs(w.mean()) < 4.5 * w.std() / np.sqrt(w.size)
        assert abs((w**2).mean() - 1) < 4.5 * (w**2).std() / np.sqrt(w.size)
        assert np.abs(w).max() <= np.sqrt(3)  # a uniform distribution of variance 1


def test_relu_layers_keep_the_size_of_a_signal():
    x = np.random.default_rng(0).normal(size=(2000, 200))
    deep = MLP.init((200,) * 11, rng=tg.noise(0), dtype=np.float64)
    mean_square = (deep(x) ** 2).mean()
    assert 0.5 < mean_square < 2  # with gain 1 it would be 2^-10


def test_the_same_seed_gives_the_same_weights_and_layers_do_not_share_them():
    first, second = MLP.init((4, 4, 4), rng=tg.noise(3)).layers
    again, _ = MLP.init((4, 4, 4), rng=tg.noise(3)).layers
    np.testing.assert_array_equal(first.weight, again.weight)
    assert not np.array_equal(first.weight, second.weight)


def test_a_model_is_printed_with_its_layers_and_shapes_and_no_numbers():
    model = tg.VAE.init(64, hidden=(16,), latent=2, components=3, likelihood="gaussian", rng=tg.noise(0))
    text = repr(model)
    assert repr(tg.wrap(model)) == text
    assert "encoder=MLP(Linear(64, 16), activation='relu', trunk=True)" in text
    assert "posterior=GaussianHead(mean=Linear(16, 2), log_variance=Linear(16, 2))" in text
    assert "mean=float32 (3, 2)" in text
    assert len(text) < 500


def test_a_model_is_a_tree_with_names():
    mlp = MLP.init((2, 3), rng=tg.noise(0), activation="tanh")
    assert [path for path, _ in tg.trees.paths(mlp)] == ["layers.0.weight", "layers.0.bias"]
    assert tg.wrap(mlp).activation == "tanh"


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: MLP((), "gelu"), ValueError, r"activation must be one of relu.*found 'gelu'"),
        (lambda: MLP.init((3, 4), rng=tg.noise(0), activation="gelu"), ValueError, "found 'gelu'"),
        (lambda: Linear(np.ones((2, 3)), np.ones(2)), ValueError, r"found .*\(2, 3\) and .*\(2,\)"),
        (lambda: Linear(np.ones(3), np.ones(3)), ValueError, r"expected shapes \(n_in, n_out\)"),
        (lambda: Linear.init(4, 3, rng=tg.noise(0))(np.ones((5, 3))), ValueError, r"\(\.\.\., 4\), found .*\(5, 3\)"),
        (lambda: Linear.init(0, 3, rng=tg.noise(0)), ValueError, "positive whole number, found 0"),
        (lambda: Linear.init(2.0, 3, rng=tg.noise(0)), TypeError, "whole number, found the float 2.0"),
        (lambda: Linear.init(2, 3, rng=0), TypeError, r"tg.noise\(seed\), found the int 0"),
        (lambda: Linear.init(2, 3, rng=tg.noise(0), dtype=np.int64), TypeError, "float32 or float64, found int64"),
        (
            lambda: MLP((Linear(np.ones((2, 3)), np.ones(3)), Linear(np.ones((4, 5)), np.ones(5)))),
            ValueError,
            "layer 0 has 3 outputs, layer 1 takes 4",
        ),
    ],
)
def test_bad_input_gets_one_clear_error(build, error, message):
    with pytest.raises(error, match=message):
        build()
