"""Runs that several tests begin with; what is trained for all of them is trained once."""

import shutil
import signal

import numpy as np
import pytest
from app_runs import GREY, finished, small_pictures

from tinygrad_vae import app
from tinygrad_vae.app.run import Run


@pytest.fixture(autouse=True)
def _pictures(monkeypatch):
    small_pictures(monkeypatch)


@pytest.fixture(scope="session")
def config(tmp_path_factory):
    """The settings of a run of three epochs of four steps, whose images are not to be changed."""
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, images=GREY, labels=np.arange(40) % 10)
    return app.TrainConfig(str(path), epochs=3, batch=10, hidden=(6,), latent=2)


@pytest.fixture(scope="session")
def kept(config, tmp_path_factory):
    """A finished run that is not to be changed, with its pictures and numbers."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    finished(config, folder)
    with pytest.MonkeyPatch.context() as patch:
        small_pictures(patch)
        app.conclude(*app.resume(folder), draws=2)
    return folder


@pytest.fixture
def folder(kept, tmp_path):
    """A copy of that run."""
    return shutil.copytree(kept, tmp_path / "run")


@pytest.fixture(scope="session")
def undisturbed(kept):
    """The checkpoint at the end of that run."""
    return (kept / "checkpoint.safetensors").read_bytes()


@pytest.fixture
def images(config, tmp_path, monkeypatch):
    """A data file in the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(config.data, "images.npz")
    return "images.npz"


@pytest.fixture
def op_by_op(monkeypatch):
    """Let every step call the functions of the library, uncompiled."""
    monkeypatch.setattr(Run, "compiled_update", property(lambda run: run.update))


@pytest.fixture
def _listening():
    """Let a Ctrl-C be heard, also where the tests run in the background of a shell, which turns it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
