"""A run on several ranks is the run of one process, also if it is stopped, killed and resumed on others."""

import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mpi
import pytest
from app_runs import SMALL, SMALL_PICTURES, finished

from tinygrad_vae import app
from tinygrad_vae.app import cli
from tinygrad_vae.app.config import RunError
from tinygrad_vae.app.run import CHECKPOINT
from tinygrad_vae.app.run_folder import OUTPUTS

TRAIN = "-m", "tinygrad_vae", "train"
STEPS_200 = "--batch", "75", "--epochs", "10"  # of the digits


@pytest.fixture(scope="module")
def in_blocks(config, tmp_path_factory):
    """The checkpoint of a run in three blocks, of one process without MPI."""
    return finished(dataclasses.replace(config, blocks=3), tmp_path_factory.mktemp("blocks") / "run")


@mpi.needs_mpi
def test_two_ranks_train_what_one_trains(config, in_blocks, tmp_path):
    said, complained = mpi.run(
        2, *SMALL_PICTURES, "train", "--data", config.data, *SMALL, "3", "--blocks", "3", "--out", tmp_path / "run"
    )
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == in_blocks
    assert {path.name for path in (tmp_path / "run").iterdir()} == set(OUTPUTS)
    assert said.count("3 blocks a batch on 2 ranks") == 1
    assert re.findall(r"epoch (\d)/3 ", complained) == ["1", "2", "3"]


def test_op_by_op_the_bits_are_those_of_the_compiled_step(config, in_blocks, tmp_path, monkeypatch):
    whole = app.Run.update_on
    monkeypatch.setattr(app.Run, "update_on", lambda run, ranks, compiled=False: whole(run, ranks))
    assert finished(dataclasses.replace(config, blocks=3), tmp_path / "run") == in_blocks


def test_bits_drawn_anew_stay_with_their_image(config, tmp_path):
    changes = {"blocks": 3, "binarise": "fresh"}
    first = finished(dataclasses.replace(config, **changes), tmp_path / "first")
    assert first == finished(dataclasses.replace(config, **changes), tmp_path / "second")
    assert first != finished(dataclasses.replace(config, blocks=3), tmp_path / "other")


def test_one_block_is_the_batch_as_ever(config, undisturbed, tmp_path):
    assert finished(dataclasses.replace(config, blocks=1), tmp_path / "run") == undisturbed


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks": 11}, "blocks: 11 are more than the 3 images of the smallest batch"),
        ({"blocks": 8, "batch": 9}, "blocks: 8 are more than the 6 images of the smallest batch"),
        ({"blocks": 0}, "blocks: expected a positive integer"),
        ({"blocks": 2, "free_bits": 0.1}, "free_bits: 0.1 goes with blocks 1"),
        ({"blocks": 2, "device": "gpu"}, "blocks: 2 goes with device cpu"),
    ],
)
def test_blocks_that_a_run_cannot_have_are_refused(config, changes, words, tmp_path):
    with pytest.raises(RunError, match=words):
        app.begin(dataclasses.replace(config, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_blocks_cannot_change_on_the_way(folder, capsys):
    assert cli.main(["train", "--resume", "--out", str(folder), "--blocks", "2"]) == 2
    assert "this run has blocks 1, 2 was asked for" in capsys.readouterr().err


@mpi.needs_mpi
def test_ranks_that_cannot_share_the_work_are_refused_once(tmp_path):
    said, complained = mpi.run(2, *TRAIN, "--blocks", "1", "--out", tmp_path / "run", code=2)
    assert (said, complained.count("\n")) == ("", 1)
    assert "blocks: 2 ranks cannot share 1 of them; take --blocks 2 or more" in complained
    assert not list(tmp_path.iterdir())


@mpi.needs_mpi
def test_an_mpi_that_is_not_that_of_mpiexec_is_named(tmp_path):
    words = [sys.executable, *TRAIN, "--out", tmp_path / "run"]
    found = subprocess.run(words, env=os.environ | {"OMPI_COMM_WORLD_SIZE": "2"}, capture_output=True, text=True)
    assert found.returncode == 2
    assert "2 ranks were started, mpi4py sees 1" in found.stderr


# --------------------------------------------------------------------------------------------- long


def pid_of(rank, folder):
    """The process that is a rank of the run in a folder, or None where it has not begun or has ended."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words, variables = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
        except OSError:
            continue
        if b"tinygrad_vae" in words and str(folder).encode() in words and f"PMI_RANK={rank}".encode() in variables:
            return int(process.name)
    return None


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The checkpoint after 200 steps on the digits in 8 blocks, of one process."""
    return finished(app.TrainConfig(blocks=8, batch=75, epochs=10), tmp_path_factory.mktemp("digits") / "run")


OP_BY_OP = """
import sys
from tinygrad_vae.app import Run, cli
whole = Run.update_on
Run.update_on = lambda run, ranks, compiled=False: whole(run, ranks)
sys.exit(cli.main())
"""


@mpi.needs_mpi
@pytest.mark.long
@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 8])
def test_after_200_steps_the_weights_are_those_of_one_process(ranks, digits, tmp_path):
    mpi.run(ranks, *TRAIN, *STEPS_200, "--out", tmp_path / "compiled")
    mpi.run(ranks, "-c", OP_BY_OP, "train", *STEPS_200, "--out", tmp_path / "plain")
    for name in ("compiled", "plain"):
        assert (tmp_path / name / CHECKPOINT).read_bytes() == digits


@mpi.needs_mpi
@pytest.mark.long
@pytest.mark.usefixtures("_listening")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_rank_killed_at_ten_moments_leaves_a_run_that_others_end(number, digits, tmp_path):
    begun = time.monotonic()
    mpi.run(2, *TRAIN, *STEPS_200, "--out", tmp_path / "undisturbed")
    whole, moments, run, landed = time.monotonic() - begun, random.Random(number), tmp_path / "run", []
    while len(landed) < 10 or run.exists():
        ranks = moments.choice([1, 2, 3, 4])
        rest = ["--resume"] if (run / CHECKPOINT).exists() else STEPS_200
        process = mpi.start(ranks, *TRAIN, *rest, "--out", run)
        if len(landed) < 10:
            time.sleep(moments.uniform(0.2 * whole, whole))
            victim = pid_of(moments.randrange(ranks), run)
            if victim is not None:
                os.kill(victim, number)
        _, complained = process.communicate(timeout=600)
        if process.returncode:
            # mpiexec gives the bits of all: 9 of those that it kills because one died or gave up before it listened
            assert process.returncode | 9 in (number | 9, 128 + number | 9), complained
            landed.append(ranks)
        else:
            assert (run / CHECKPOINT).read_bytes() == digits, landed
            shutil.rmtree(run)


OTHER_PROCESSOR = """
import sys
import numpy as np
from tinygrad_vae import trees
from tinygrad_vae.app import Run, cli
from tinygrad_vae.parallel import world
descend = Run.descend

def on_another_processor(run, model, optimizer, gradient, rate):
    gradient = trees.map_leaves(lambda g: g * np.float32(1 + 1e-6 * world().rank), gradient)
    return descend(run, model, optimizer, gradient, rate)

Run.descend = on_another_processor
sys.exit(cli.main())
"""


@mpi.needs_mpi
@pytest.mark.long
@pytest.mark.parametrize(
    ("program", "flags", "code", "words"),
    [
        (("-c", OTHER_PROCESSOR, "train"), [], 2, "rank 1 holds other weights than rank 0 after step 15"),
        (TRAIN, ["--learning-rate", "1e6"], 1, "training diverged in step 2"),
        (TRAIN, ["--posterior", "bernoulli"], 2, "pathwise does not work for this model"),
    ],
)
def test_what_goes_wrong_on_ranks_is_said_once(program, flags, code, words, tmp_path):
    _, complained = mpi.run(2, *program, "--epochs", "3", *flags, "--out", tmp_path / "run", code=code)
    said = [line for line in complained.splitlines() if not line.startswith("epoch ")]
    assert len(said) == 1, complained
    assert words in said[0]
