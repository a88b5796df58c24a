"""Runs side by side are those of one after the other, and end in a table."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from app_runs import SMALL, begin_process_with_small_pictures, finished

from tinygrad_vae.app import cli, seeds
from tinygrad_vae.app.run import CHECKPOINT

BOUND = "evidence lower bound (ELBO)"


def row_of(text, label):
    """The numbers behind a label in a table."""
    return [float(x) for x in next(line for line in text.splitlines() if label in line).split(label)[1].split()]


def test_runs_side_by_side_are_those_of_one_after_the_other(config, images, tmp_path, monkeypatch, capsys):
    words = ["train", "--data", images, *SMALL, "3", "--seeds", "2", "--seed", "4", "--out", "runs"]

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli, "train_all", stopped)
        assert cli.main(words) == 130
    assert "To go on: tinygrad-vae train --out runs --seeds 2 --resume" in capsys.readouterr().err
    monkeypatch.setattr(seeds, "_begin_process", begin_process_with_small_pictures)
    assert cli.main([*words, "--resume"]) == 0
    said, complained = capsys.readouterr()
    bounds = []
    for seed in (4, 5):
        alone = finished(
            dataclasses.replace(config, data=str(tmp_path / images), seed=seed), tmp_path / f"alone-{seed}"
        )
        assert (tmp_path / f"runs/seed-{seed}" / CHECKPOINT).read_bytes() == alone
        assert f"runs/seed-{seed}: done" in complained
        bounds.append(json.loads((tmp_path / f"runs/seed-{seed}/metrics.json").read_text())["held_out"]["bound"])
    assert row_of(said, BOUND) == [round(x, 2) for x in (np.mean(bounds), np.std(bounds, ddof=1) / math.sqrt(2))]


def test_a_folder_in_use_stops_all_of_them_before_they_begin(images, tmp_path, capsys):
    (tmp_path / "runs/seed-1").mkdir(parents=True)
    (tmp_path / "runs/seed-1/metrics.json").touch()
    assert cli.main(["train", "--data", images, *SMALL, "3", "--seeds", "2", "--out", "runs"]) == 2
    assert "runs/seed-1: holds metrics.json" in capsys.readouterr().err
    assert not (tmp_path / "runs/seed-0").exists()


def test_one_seed_has_no_standard_error(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--seeds", "1"])
    assert "argument --seeds: expected an integer of at least 2 up to 2147483647, found '1'" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.usefixtures("_listening")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_runs_go_on_where_they_stood(number, config, tmp_path):
    command = [sys.executable, "-m", "tinygrad_vae", "train", "--seeds", "2", "--out", tmp_path / "run"]
    flags = ["--data", config.data, *SMALL, "2000"]
    process = subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not (tmp_path / "run/seed-1/environment.json").exists():
        time.sleep(0.1)
    time.sleep(5)
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)  # a terminal sends a Ctrl-C to all
    assert "--seeds 2 --resume" in process.communicate()[1]
    assert process.returncode == 128 + number
    subprocess.run([*command, "--resume"], check=True, capture_output=True)
    for seed in (0, 1):
        alone = finished(dataclasses.replace(config, epochs=2000, seed=seed), tmp_path / f"alone-{seed}")
        assert (tmp_path / f"run/seed-{seed}" / CHECKPOINT).read_bytes() == alone
