"""Weights on their way to PyTorch and back: the same names, and the same numbers out of the same networks."""

import itertools

import numpy as np
import pytest
from small_models import binary_images, small_vae

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.core import trees


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(trees.leaves(a), trees.leaves(b), strict=True))


def blank(model):
    return trees.map_leaves(np.zeros_like, model)


def test_names_and_shapes_are_those_of_a_sequential():
    state = vae.to_state_dict(tg.VAE.init(12, hidden=(8, 5), latent=3, rng=tg.noise(0)))
    assert {name: array.shape for name, array in state.items()} == {
        "encoder.0.weight": (8, 12),
        "encoder.0.bias": (8,),
        "encoder.2.weight": (5, 8),
        "encoder.2.bias": (5,),
        "posterior.mean.weight": (3, 5),
        "posterior.mean.bias": (3,),
        "posterior.log_variance.weight": (3, 5),
        "posterior.log_variance.bias": (3,),
        "decoder.0.weight": (5, 3),
        "decoder.0.bias": (5,),
        "decoder.2.weight": (8, 5),
        "decoder.2.bias": (8,),
        "likelihood.logits.weight": (12, 8),
        "likelihood.logits.bias": (12,),
    }


@pytest.mark.parametrize("posterior", vae.POSTERIORS)
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_there_and_back_nothing_changes(posterior, likelihood):
    components = 3 if posterior == "gaussian" else 0
    model = small_vae(posterior=posterior, likelihood=likelihood, components=components)
    state = vae.to_state_dict(model)
    assert len(state) == len(trees.leaves(model))
    assert equal(vae.from_state_dict(blank(model), state), model)
    state["encoder.0.weight"][:] = 0
    assert model.encoder.layers[0].weight.any()  # the state dict has memory of its own


def test_a_wrapped_model_gives_its_arrays_and_takes_the_dtype_of_the_template():
    model = small_vae()
    state = vae.to_state_dict(tg.wrap(model))
    half = vae.from_state_dict(tg.VAE.init(12, hidden=(8,), latent=3, rng=tg.noise(1)), state)
    for a, b in zip(trees.leaves(half), trees.leaves(model), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float32))


def test_through_a_safetensors_file(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = small_vae()
    safetensors.save_file(vae.to_state_dict(model), tmp_path / "model.safetensors")
    assert equal(vae.from_state_dict(blank(model), safetensors.load_file(tmp_path / "model.safetensors")), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("decoder.0.bias"), "missing: decoder.0.bias; not known here: nothing"),
        (lambda s: s.update(extra=np.ones(2)), "missing: nothing; not known here: extra"),
        (
            lambda s: s.update({"encoder.0.weight": s["encoder.0.weight"].T}),
            r"encoder.0.weight must be floats of shape \(8, 12\), found a float64 array of shape \(12, 8\)",
        ),
        (lambda s: s.update({"encoder.0.bias": np.ones(8, int)}), "must be floats"),
    ],
)
def test_weights_of_another_model_are_refused(change, message):
    model = small_vae()
    state = vae.to_state_dict(model)
    change(state)
    with pytest.raises(ValueError, match=message):
        vae.from_state_dict(model, state)


# in PyTorch --------------------------------------------------------------------------------------------


def in_torch(torch, activation, sizes=(12, 8, 5), latent=3):
    """Return the model as somebody who has never seen this library would write it."""
    nn = torch.nn
    kind = {"relu": nn.ReLU, "tanh": nn.Tanh, "softplus": nn.Softplus, "sigmoid": nn.Sigmoid}[activation]

    def trunk(*widths):
        layers = []
        for n_in, n_out in itertools.pairwise(widths):
            layers += [nn.Linear(n_in, n_out), kind()]
        return nn.Sequential(*layers)

    pixels, *hidden = sizes
    return nn.ModuleDict(
        {
            "encoder": trunk(*sizes),
            "posterior": nn.ModuleDict({name: nn.Linear(hidden[-1], latent) for name in ("mean", "log_variance")}),
            "decoder": trunk(latent, *reversed(hidden)),
            "likelihood": nn.ModuleDict({"logits": nn.Linear(hidden[0], pixels)}),
        }
    ).double()


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus", "sigmoid"])
def test_the_same_networks_in_torch_give_the_same_numbers(activation):
    torch = pytest.importorskip("torch")
    x = binary_images(6)
    ours = tg.VAE.init(12, hidden=(8, 5), latent=3, activation=activation, rng=tg.noise(0), dtype=np.float64)
    theirs = in_torch(torch, activation)
    state = {name: torch.from_numpy(array) for name, array in vae.to_state_dict(ours).items()}
    theirs.load_state_dict(state, strict=True)
    h = theirs["encoder"](torch.from_numpy(x))
    mean, log_variance = (theirs["posterior"][name](h).detach().numpy() for name in ("mean", "log_variance"))
    q = ours.encode(x)
    np.testing.assert_allclose(q.mean, mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(q.variance, np.exp(log_variance), rtol=1e-10)
    logits = theirs["likelihood"]["logits"](theirs["decoder"](torch.from_numpy(mean))).detach().numpy()
    np.testing.assert_allclose(ours.decode(mean).base.logits, logits, rtol=1e-10, atol=1e-12)


def test_weights_that_torch_began_with_come_here():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    theirs = in_torch(torch, "relu")
    template = tg.VAE.init(12, hidden=(8, 5), latent=3, rng=tg.noise(0), dtype=np.float64)
    ours = vae.from_state_dict(template, theirs.state_dict())
    x = binary_images(6)
    mean = theirs["posterior"]["mean"](theirs["encoder"](torch.from_numpy(x))).detach().numpy()
    np.testing.assert_allclose(ours.encode(x).mean, mean, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("as_parameter", [False, True])
def test_weights_of_any_floating_dtype_and_parameters_are_loaded(kind, as_parameter):
    torch = pytest.importorskip("torch")
    model = small_vae()
    state = {name: torch.from_numpy(w).to(getattr(torch, kind)) for name, w in vae.to_state_dict(model).items()}
    expected = {name: w.double().numpy() for name, w in state.items()}
    if as_parameter:
        state = {name: torch.nn.Parameter(w) for name, w in state.items()}
    found = vae.to_state_dict(vae.from_state_dict(blank(model), state))
    for name, w in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], w)
