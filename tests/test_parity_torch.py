"""The same weights, images and noise give the same training as PyTorch."""

import numpy as np
import pytest

import tinygrad_vae as tg
from tinygrad_vae.core import trees
from tinygrad_vae.vae.evaluate import evaluate

torch = pytest.importorskip("torch")

PIXELS, HIDDEN, LATENT, BATCH, STEPS = 64, 32, 4, 50, 100


@pytest.fixture(scope="module")
def digits():
    """The 8 x 8 digits of scikit-learn, black and white, in the order in which both libraries see them."""
    images = pytest.importorskip("sklearn.datasets").load_digits().data
    return (images > 8).astype(np.float64)


def initial_model(dtype):
    """Return a model whose biases are not 0 either, so that nothing is compared at a special point."""
    model = tg.VAE.init(PIXELS, hidden=(HIDDEN,), latent=LATENT, rng=tg.noise(0), dtype=dtype)
    biases = tg.noise(1)
    return trees.map_leaves(
        lambda leaf: leaf if leaf.ndim > 1 else (0.1 * biases.normal(leaf.shape)).astype(leaf.dtype), model
    )


def our_loss(model, x, step):
    return -tg.mean(tg.reparameterize(tg.elbo(model, x, rng=tg.noise(2).at("step", step))))


def torch_loss(parameters, x, step):
    """The negative bound written with PyTorch's own functions, on the noise that the library draws at this step."""
    w1, b1, w_mu, b_mu, w_lv, b_lv, w2, b2, w3, b3 = parameters
    x = torch.from_numpy(x)
    h = torch.relu(x @ w1 + b1)
    mu, log_variance = h @ w_mu + b_mu, h @ w_lv + b_lv
    noise = tg.noise(2).at("step", step).normal((len(x), LATENT), dtype=mu.detach().numpy().dtype)
    q = torch.distributions.Normal(mu, torch.exp(log_variance / 2))
    z = q.loc + q.scale * torch.from_numpy(noise)
    logits = torch.relu(z @ w2 + b2) @ w3 + b3
    misfit = torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(dim=1)
    prior = torch.distributions.Normal(torch.zeros_like(mu), torch.ones_like(mu))
    kl = torch.distributions.kl_divergence(q, prior).sum(dim=1)
    return (misfit + kl).mean()


def torch_parameters(model):
    return [torch.tensor(leaf, requires_grad=True) for leaf in trees.leaves(model)]


def batch_at(images, step):
    start = step * BATCH % (len(images) - BATCH)
    return images[start : start + BATCH]


def trained(images, dtype):
    """Train with both libraries; return the losses and the model of each."""
    model = initial_model(dtype)
    images = images.astype(dtype)

    parameters = torch_parameters(model)
    torch_optimizer = torch.optim.Adam(parameters, lr=1e-3)
    torch_losses = []
    for step in range(STEPS):
        loss = torch_loss(parameters, batch_at(images, step), step)
        torch_optimizer.zero_grad()
        loss.backward()
        torch_optimizer.step()
        torch_losses.append(loss.item())
    torch_model = trees.replace_leaves(model, [p.detach().numpy() for p in parameters])

    optimizer = tg.optim.Adam(1e-3)
    state, losses = optimizer.init(model), []
    for step in range(STEPS):
        recorded = tg.wrap(model)
        loss = our_loss(recorded, batch_at(images, step), step)
        model, state = optimizer.update(model, tg.gradients(loss, recorded), state)
        losses.append(float(loss.value))
    return (losses, model), (torch_losses, torch_model)


def test_gradients_of_the_first_step_are_equal_in_float64(digits):
    model = initial_model(np.float64)
    recorded = tg.wrap(model)
    loss = our_loss(recorded, batch_at(digits, 0), 0)
    parameters = torch_parameters(model)
    expected = torch_loss(parameters, batch_at(digits, 0), 0)
    expected.backward()
    assert float(loss.value) == pytest.approx(expected.item(), rel=1e-12)
    found = tg.gradients(loss, recorded)
    for (path, g), p in zip(trees.paths(found), parameters, strict=True):
        scale = np.abs(p.grad.numpy()).max()
        np.testing.assert_allclose(g, p.grad.numpy(), rtol=1e-10, atol=1e-10 * scale, err_msg=path)


def test_losses_of_a_hundred_adam_steps_are_equal_in_float32(digits):
    (losses, model), (torch_losses, torch_model) = trained(digits[:-300], np.float32)
    np.testing.assert_allclose(losses, torch_losses, rtol=1e-5)
    assert losses[-1] < 0.8 * losses[0]
    held_out = digits[-300:].astype(np.float32)
    ours, theirs = (evaluate(m, held_out, rng=tg.noise(3), samples=10) for m in (model, torch_model))
    assert ours["bound"] == pytest.approx(theirs["bound"], rel=1e-5)
    assert ours["log_likelihood"] == pytest.approx(theirs["log_likelihood"], rel=1e-5)
