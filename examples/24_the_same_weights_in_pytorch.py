# %% [markdown]
# # 24. The same weights in PyTorch

# %% [markdown]
"""What happens to the gradient of a variational autoencoder on its way to PyTorch?

The same weights give the same numbers there, and with ``rsample`` the same gradient. With ``sample`` the draw is
detached, and PyTorch hands out another gradient without a word; here that is an error.

Runs in about four seconds. Without PyTorch it says what it would have shown, measures the two gradients here, and draws
those. Picture: ``figures/24_the_same_weights_in_pytorch.png``; another folder may be named on the command line.
"""

# %% [markdown]
# You have trained a model here and want it there, or the other way round. `vae.to_state_dict` gives the weights the
# names and shapes that PyTorch expects: a `Linear` layer holds its matrix as (outputs, inputs), and in a `Sequential`
# the activations are counted too, so that the second layer is number 2.

# %%
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_vae as tg
from tinygrad_vae import vae
from tinygrad_vae.app.data import load

try:
    import torch
except ImportError:
    torch = None

plt.style.use("tinygrad_vae.course")
figures = Path(next((arg for arg in sys.argv[1:2] if not arg.startswith("-")), "figures"))
figures.mkdir(parents=True, exist_ok=True)

images, _ = load("digits")
x = np.asarray(images.pixels[:200], np.float64)

# %% [markdown]
# ## A model, a little trained
#
# In float64, so that what differs is not rounding.

# %%
model = tg.VAE.init(64, hidden=(32, 16), latent=4, activation="tanh", rng=tg.noise(0), dtype=np.float64)
optimizer = tg.optim.Adam(5e-3)
state = optimizer.init(model)
for step in range(200):
    recorded = tg.wrap(model)
    bound = tg.mean(tg.reparameterize(tg.elbo(recorded, x, rng=tg.noise(1).at(step))))
    model, state = optimizer.update(model, tg.gradients(-bound, recorded), state)

weights = vae.to_state_dict(model)
for name, array in weights.items():
    print(f"{name:<32} {array.shape}")

# %% [markdown]
# ## Three gradients of the same bound, on the same noise
#
# The first is right. The second takes the draw for a constant on purpose, with `stop_gradient`. The third is a witness
# that needs no autodiff: the slope of the bound along the right gradient, by central differences.

# %%
noise_of_z = tg.noise(2).normal((len(x), model.latent))


def bound_of(model, detach=False):
    """Return the mean bound, with z = mean + sigma e written out so that both libraries have the same e."""
    q = model.encode(x)
    z = q.base.loc + q.base.scale * noise_of_z
    z = tg.stop_gradient(z) if detach else z
    return tg.mean(model.decode(z).log_prob(x) - tg.kl_divergence(q, model.prior()))


def gradient_of(detach):
    recorded = tg.wrap(model)
    return vae.to_state_dict(tg.gradients(bound_of(recorded, detach), recorded))


right, cut = gradient_of(detach=False), gradient_of(detach=True)
length = np.sqrt(sum((g**2).sum() for g in right.values()))


def moved(by):
    return vae.from_state_dict(model, {name: w + by * right[name] / length for name, w in weights.items()})


slope = (bound_of(moved(1e-5)) - bound_of(moved(-1e-5))) / 2e-5
print(f"\nslope of the bound along the gradient: {slope:.6f}, length of the gradient: {length:.6f}")
assert np.isclose(slope, length, rtol=1e-6)

# %% [markdown]
# ## The same in PyTorch
#
# This is how somebody would write it who has never seen this library.

# %%


def in_torch(method):
    """Return what the encoder and the decoder give, and the gradient, with ``rsample`` or ``sample`` for the draw."""
    nn = torch.nn

    def trunk(*sizes):
        layers = [(nn.Linear(n, m), nn.Tanh()) for n, m in zip(sizes[:-1], sizes[1:], strict=True)]  # noqa: RUF007
        return nn.Sequential(*(layer for pair in layers for layer in pair))

    posterior = nn.ModuleDict({"mean": nn.Linear(16, 4), "log_variance": nn.Linear(16, 4)})
    likelihood = nn.ModuleDict({"logits": nn.Linear(32, 64)})
    parts = {"encoder": trunk(64, 32, 16), "posterior": posterior}
    net = nn.ModuleDict({**parts, "decoder": trunk(4, 16, 32), "likelihood": likelihood}).double()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})

    images = torch.from_numpy(x)
    h = net["encoder"](images)
    mean, sigma = posterior["mean"](h), torch.exp(posterior["log_variance"](h) / 2)
    q = torch.distributions.Normal(mean, sigma)
    z = mean + sigma * torch.from_numpy(noise_of_z)  # what rsample does
    z = z.detach() if method == "sample" else z  # and what sample does
    logits = likelihood["logits"](net["decoder"](z))
    fit = torch.distributions.Bernoulli(logits=logits).log_prob(images).sum(1)
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    (fit - torch.distributions.kl_divergence(q, prior).sum(1)).mean().backward()
    gradient = {name: p.grad.numpy() for name, p in net.named_parameters()}
    return mean.detach().numpy(), logits.detach().numpy(), gradient


def furthest(a, b):
    return max(np.abs(a[name] - b[name]).max() for name in a)


if torch is None:
    print("\nPyTorch is not installed. It would have shown the same means, logits and gradient, to twelve digits,")
    print("and, with sample() for rsample(), without a word, the gradient that is called cut here.")
else:
    there = {}
    for method, expected in (("rsample", right), ("sample", cut)):
        mean, logits, there[method] = in_torch(method)
        q = model.encode(x)
        assert np.allclose(mean, q.base.loc, rtol=1e-10, atol=1e-12)
        assert np.allclose(logits, model.decode(q.base.loc + q.base.scale * noise_of_z).base.logits, rtol=1e-10)
        print(f"\nPyTorch with {method}: furthest from the {'right' if expected is right else 'cut'} gradient here by")
        print(f"{furthest(there[method], expected):.1e}, from the right one by {furthest(there[method], right):.1e}")
        assert furthest(there[method], expected) < 1e-10 * length

# %% [markdown]
# ## What is lost without a word
#
# The decoder has the same gradient either way. In the cut gradient the encoder's own comes from the divergence alone:
# it pulls the code towards the prior, and nothing pulls it towards the images. Here you have to say `stop_gradient` for
# that. A draw as it comes is an error.

# %%
encoder = [name for name in right if name.startswith(("encoder", "posterior"))]
decoder = [name for name in right if name not in encoder]
assert max(np.abs(right[name] - cut[name]).max() for name in decoder) < 1e-12 * length
a, b = (np.concatenate([g[name].ravel() for name in encoder]) for g in (right, cut))
angle = np.degrees(np.arccos(a @ b / np.sqrt((a @ a) * (b @ b))))
print(f"\nencoder: the cut gradient points {angle:.0f} degrees away from the right one")
assert np.linalg.norm(a - b) > 0.5 * np.linalg.norm(a)

recorded = tg.wrap(model)
try:
    tg.gradients(tg.mean(tg.elbo(recorded, x, rng=tg.noise(3))), recorded)
    raise AssertionError("a partly cut gradient was handed out")
except tg.BlockedGradientError as error:
    print(str(error).partition("\n")[0])

# %% [markdown]
# ## The picture

# %% jupyter={"source_hidden": true}
figure, panels = plt.subplots(1, 2, figsize=(9, 4.2), sharex=True, sharey=True)
limit = 1.1 * max(np.abs(g[name]).max() for g in (right, cut) for name in encoder)
others = there if torch is not None else {"rsample": right, "sample": cut}
where = "in PyTorch" if torch is not None else "here, as PyTorch would give it"
for axes, method, colour in zip(panels, ("rsample", "sample"), ("C0", "C1"), strict=True):
    other = np.concatenate([others[method][name].ravel() for name in encoder])
    axes.plot([-limit, limit], [-limit, limit], color="0.6", linewidth=1)
    axes.plot(a, other, ".", color=colour, markersize=4)
    axes.set_title(f"{method}: " + ("the same" if method == "rsample" else "another gradient, without a word"))
    axes.set_xlabel("gradient in a weight of the encoder, here")
panels[1].text(-limit, 0.9 * limit, f"{angle:.0f} degrees away", color="C1")
panels[0].set_ylabel(where)
figure.savefig(figures / "24_the_same_weights_in_pytorch.png")
print(f"\nthe picture is in {figures / '24_the_same_weights_in_pytorch.png'}")

# %% [markdown]
# ## Predict, then run
#
# 1. For which encoder is the cut gradient exactly 0?
# 2. Write `z = mean + sigma * torch.randn_like(sigma)` in PyTorch. Is that `sample` or `rsample`?
# 3. Why do the two gradients agree in the decoder?

# %% [markdown]
# ## Where to read on
#
# In the source: `tinygrad_vae/vae/interchange.py`, the names and shapes; `tinygrad_vae/guard/`, the refusal.
#
# In the literature:
#
# - Kingma and Welling 2014; Rezende, Mohamed and Wierstra 2014: the gradient that `rsample` gives
# - Schulman, Heess, Weber and Abbeel 2015, Gradient Estimation Using Stochastic Computation Graphs
# - Paszke et al. 2019, PyTorch
#
# ## Answers
#
# 1. For one that has collapsed: if its answer is the prior for every image, the divergence has its minimum. Training
#    with the cut gradient goes there and stays.
# 2. It is `rsample`, written by hand: the draw is computed from mean and sigma, and only the noise is drawn.
# 3. The decoder stands behind the draw. Its gradient goes from the bound to its weights and never meets z's past.
