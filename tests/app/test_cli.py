"""The command: what it prints and leaves, its exit codes, and one line for every mistake."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import matplotlib.image
import numpy as np
import pytest
from app_runs import SMALL as FEW
from app_runs import finished

import tinygrad_vae as tg
from tinygrad_vae import app, optional
from tinygrad_vae.app import checkpoint, cli, run_folder
from tinygrad_vae.app.teaching import MODELS
from tinygrad_vae.app.textbook import COSTS
from tinygrad_vae.compiled.recording import PlanError

SMALL = [*FEW, "3"]


@pytest.fixture
def run(images, folder):
    """The folder of a small run, which is the working directory's."""
    return folder.name


def said(capsys, code, *argv):
    """Run the command, check its exit code, and return what it printed."""
    try:
        found = cli.main(list(argv))
    except SystemExit as end:
        found = end.code
    out, err = capsys.readouterr()
    assert found == code, err
    return out if code == 0 else err


def refused(capsys, *argv):
    """What the command prints to refuse a request: one line, without a traceback."""
    err = said(capsys, 2, *argv)
    assert err.startswith("tinygrad-vae")
    assert err.count("\n") == 1
    return err


# ------------------------------------------------------------------------------------------- it works


def test_train_says_what_it_does_and_how_good_it_became(images, tmp_path, capsys):
    out = said(capsys, 0, "train", "--data", images, *SMALL)
    assert "33 images of 4 x 4 pixels to train on, 7 held out" in out
    assert "VAE 16 - 6 - 2 (relu), elbo, pathwise estimator, 3 epochs of 4 steps" in out
    for words in ("nats per image", "standard error", "log p(x)", "ELBO", "rate", "distortion"):
        assert words in out
    assert {path.name for path in (tmp_path / "runs" / "images").iterdir()} == set(run_folder.OUTPUTS)


def test_without_a_command_it_says_which_there_are(capsys):
    out = said(capsys, 0)
    assert out == said(capsys, 0, "--help")
    assert re.search(r"^ +train +train a VAE on images$", out, re.MULTILINE)


def test_progress_elsewhere_than_in_a_terminal_is_a_line_each_epoch(images, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    assert cli.main(["train", "--data", images, *SMALL]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["1/3", "2/3", "3/3"]
    assert all(re.search(r"bound +-\d+\.\d\d nats +[\d,]+ images/s", line) for line in lines)


def test_a_resumed_run_ends_as_a_longer_one(run, images, tmp_path, capsys):
    out = said(capsys, 0, "train", "--out", run, "--resume", "--epochs", "4", "--data", images)
    assert "going on after step 12" in out
    said(capsys, 0, "train", "--out", "long", "--data", images, *SMALL[:-1], "4")
    for name in (run_folder.CHECKPOINT, "history.csv", "metrics.json"):
        assert (tmp_path / run / name).read_bytes() == (tmp_path / "long" / name).read_bytes()


def test_evaluate_measures_several_runs(run, config, tmp_path, capsys):
    finished(dataclasses.replace(config, estimator="score-function"), tmp_path / "score")
    out = said(capsys, 0, "evaluate", run, "score", "--samples", "3")
    assert out.count("7 held-out images, 3 draws each") == 2
    assert "run: pathwise estimator, 12 steps" in out
    assert "score: score-function estimator, 12 steps" in out


def test_sample_writes_a_picture_or_an_array(run, tmp_path, capsys):
    first = (tmp_path / run / "samples.png").read_bytes()
    assert "100 images in run/samples.png" in said(capsys, 0, "sample", run)
    assert (tmp_path / run / "samples.png").read_bytes() == first
    said(capsys, 0, "sample", run, "--count", "9", "--out", "nine.png")
    height, width, _ = matplotlib.image.imread("nine.png").shape
    assert height == width == 3 * 28 + 4 * 3
    arrays = []
    for seed in ("5", "5", "6"):
        said(capsys, 0, "sample", run, "--count", "7", "--seed", seed, "--out", "seven.npy")
        arrays.append(np.load("seven.npy"))
    assert arrays[0].shape == (7, 4, 4)
    assert ((arrays[0] > 0) & (arrays[0] < 1)).all()
    assert np.array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_explain_shows_the_same_value_blocked_and_open(tmp_path, capsys):
    picture = tmp_path / "graphs.svg"
    out = said(capsys, 0, "explain", "--out", str(picture))
    before, after = out.split("After tg.reparameterize(loss)")
    assert "1 random node stands between" in before
    assert "step.py:5" in before
    assert "UNBIASED" in after
    assert len(set(re.findall(r"(?:Its loss|same value), (\d+\.\d+)", out))) == 1
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("name", "beginning"),
    [("a.html", "<!doctype html>"), ("a.dot", "digraph {"), ("a.mmd", "flowchart TD"), ("a.txt", "z is drawn")],
)
def test_explain_writes_both_graphs_as_the_name_of_the_file_says(tmp_path, capsys, name, beginning):
    said(capsys, 0, "explain", "--out", str(tmp_path / name))
    text = (tmp_path / name).read_text(encoding="utf-8")
    assert text.startswith(beginning)
    assert text.count("z ~ Normal") == 1 or name == "a.html"  # random in the first graph alone
    assert "z (pathwise)" in text


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path):
    command = [sys.executable, "-m", "tinygrad_vae", "explain", "--out", str(tmp_path / "a.svg")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 0)
    process.stderr.close()


@pytest.mark.parametrize("command", ["", "train", "evaluate", "compare", "sample", "explain"])
def test_help_teaches_with_an_example(command, capsys):
    out = said(capsys, 0, *command.split(), "--help")
    assert f"tinygrad-vae {command}".strip() in out
    assert command == "" or "Examples:" in out


def test_help_tells_the_defaults_as_they_are(capsys):
    out = " ".join(said(capsys, 0, "train", "--help").split())
    for name, value in vars(app.TrainConfig()).items():
        text = ",".join(map(str, value)) if name == "hidden" else f"{value:g}" if isinstance(value, float) else value
        assert re.search(rf"--{name.replace('_', '-')} .*?\(default: {text}\b", out), name


def test_a_real_ctrl_c_saves_and_says_how_to_go_on(images):
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # also in a shell's background
        "from tinygrad_vae.app.cli import main; raise SystemExit(main())"
    )
    words = ["train", "--data", images, "--out", "run", *SMALL[:-1], "10000"]
    process = subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True)
    while (
        not os.path.exists("run/checkpoint.safetensors") or checkpoint.load("run/checkpoint.safetensors")[1]["step"] < 8
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    step = re.search(r"stopped; run/checkpoint.safetensors holds the state after step (\d+) of 40000", err)[1]
    assert "To go on: tinygrad-vae train --out run --resume" in err
    assert "Traceback" not in err
    assert app.resume("run")[1].step == int(step)


# ------------------------------------------------------------------------------------- it is refused


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--epochs 0", "--epochs: expected a positive integer up to 2147483647, found '0'"),
        ("--epochs many", "--epochs: expected a positive integer up to 2147483647, found 'many'"),
        ("--latent 0", "--latent"),
        ("--hidden 8,-1", "--hidden: expected positive integers up to 2147483647, found '8,-1'"),
        ("--batch 1000", "1000 is more than the 33 training images"),
        ("--learning-rate=-1", "--learning-rate: expected a positive number, found '-1'"),
        ("--learning-rate nan", "found 'nan'"),
        ("--learning-rate fast", "expected a positive number, found 'fast'"),
        ("--seed=-1", "--seed"),
        ("--estimator reinforce", "invalid choice: 'reinforce' (choose from"),
        ("--activation swish", "invalid choice: 'swish'"),
        ("--data nowhere.npz", "nowhere.npz: no such file or folder"),
        ("--batch 10 --hidden 1000000000", "hidden, latent: a model of this size cannot be made: Unable to allocate"),
        ("--batch 10 --out images.npz/run", "images.npz/run: the output folder cannot be written"),
        ("--resume", "run: holds no run"),
        ("--speed 3", "unrecognized arguments: --speed 3"),
    ],
)
def test_a_bad_request_is_refused_before_anything_is_written(words, answer, images, tmp_path, capsys):
    assert answer in refused(capsys, "train", "--data", images, "--out", "run", *words.split())
    assert [path.name for path in tmp_path.iterdir()] == [images]


def test_an_existing_run_is_neither_overwritten_nor_changed_into_another(run, images, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (tmp_path / run).iterdir()}
    assert "holds a run already; resume it" in refused(capsys, "train", "--data", images, "--out", run)
    err = refused(capsys, "train", "--out", run, "--resume", "--latent", "3")
    assert "this run has latent 2, 3 was asked for" in err
    assert "3 epochs long already" in refused(capsys, "train", "--out", run, "--resume", "--epochs", "1")
    assert {path: path.read_bytes() for path in (tmp_path / run).iterdir()} == before


def test_resume_may_repeat_the_settings(run, images, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    said(capsys, 0, "train", "--data", images, "--out", run, "--resume", *SMALL)


@pytest.mark.parametrize("command", [["evaluate", "run"], ["sample", "run"], ["train", "--out", "run", "--resume"]])
def test_what_is_no_run(command, images, tmp_path, capsys):
    assert "run: holds no run" in refused(capsys, *command)
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / run_folder.CHECKPOINT
    path.write_text("no checkpoint")
    assert "damaged or something else" in refused(capsys, *command)
    checkpoint.save(path, {"w": np.ones(2)}, {})
    assert "not one of a training run" in refused(capsys, *command)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_files_that_cannot_be_written(run, capsys):
    for name in ("digits.gif", "nowhere/digits.png", "nowhere/digits.npy"):
        found = refused(capsys, "sample", run, "--out", name)
        assert f"--out: expected a .png or .npy file in a folder that exists, found '{name}'" in found
    assert "expected a .svg or .html or .dot or .mmd or .txt file" in refused(
        capsys, "explain", "--out", "nowhere/a.svg"
    )
    assert "--count" in refused(capsys, "sample", run, "--count", "0")


def test_a_missing_extra_is_named_before_the_first_step(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    err = refused(capsys, "train", "--data", images, *SMALL)
    assert 'pip install "tinygrad-vae[train]"' in err
    assert not (tmp_path / "runs").exists()
    with pytest.raises(optional.MissingExtraError, match="matplotlib is needed here"):
        optional.require("matplotlib.figure")


@pytest.mark.filterwarnings("always")
def test_a_biased_estimator_says_so_once_and_where_the_model_draws(images, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    words = ["--data", images, "--posterior", "bernoulli", "--estimator", "straight-through", *SMALL]
    assert cli.main(["train", *words]) == 0
    err = capsys.readouterr().err
    assert err.count("is biased") == 1
    assert re.search(r"the gradient through z \(run\.py:\d+\) is biased", err)


def test_an_unknown_flag_points_to_the_help_of_its_command(capsys):
    assert "train: unrecognized arguments: --lr 0.1 (see tinygrad-vae train --help)" in refused(
        capsys, "train", "--lr", "0.1"
    )
    assert "unrecognized arguments: --epoch 3" in refused(capsys, "train", "--epoch", "3")
    assert said(capsys, 0, "--version").startswith("tinygrad-vae ")


def test_advice_that_can_be_followed(run, images, tmp_path, capsys):
    assert f"give the folder of the run, {run}" in refused(capsys, "evaluate", f"{run}/checkpoint.safetensors")
    assert "nowhere: holds no run; give the folder" in refused(capsys, "compare", run, "nowhere")
    assert "expected a file or a folder, found ''" in refused(capsys, "train", "--out", "")
    damaged = tmp_path / run / "checkpoint.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    assert "put a copy in its place, or begin anew in another folder" in refused(capsys, "evaluate", run)


def test_a_request_that_no_memory_holds_says_what_takes_less(images, tmp_path, capsys):
    words = ["--data", images, "--objective", "iwae", "--samples", str(2**31 - 1), "--out", "large", *SMALL]
    assert "a smaller batch or fewer samples take less" in refused(capsys, "train", *words)
    assert not (tmp_path / "large").exists()


def test_divergence_is_no_traceback(images, capsys):
    err = said(capsys, 1, "train", "--data", images, "--learning-rate", "1e30", *SMALL)
    assert "diverged in step 2" in err
    assert "a learning rate below 1e+30" in err


def test_a_ctrl_c_before_the_first_step(images, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "load", interrupted)
    assert said(capsys, 130, "train", "--data", images) == "tinygrad-vae: interrupted\n"


@pytest.mark.parametrize("cost", ["bernoulli", "vae"])
def test_estimators_are_compared_in_a_table_and_a_picture(cost, tmp_path, capsys):
    out = tmp_path / "a.png"
    assert cli.main(["estimators", "--cost", cost, "--runs", "20", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert out.read_bytes().startswith(b"\x89PNG")
    assert f"The picture: {out}" in printed
    for words in ("20 gradients of each estimator", "variance x s", "score-function"):
        assert words in printed
    if cost == "bernoulli":
        assert "BIASED" in printed
        assert "  in theory" in printed


def test_every_cost_of_the_help_can_be_measured(capsys):
    with pytest.raises(SystemExit):
        cli.main(["estimators", "--help"])
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in (*COSTS, *MODELS))


@pytest.mark.parametrize("out", ["a.txt", "nowhere/a.png"])
def test_a_picture_of_estimators_that_cannot_be_written_is_refused_before_anything_is_measured(out, tmp_path, capsys):
    assert "in a folder that exists" in refused(capsys, "estimators", "--out", str(tmp_path / out))


def test_many_samples_are_written_as_one_array(run, capsys):
    said(capsys, 0, "sample", run, "--count", "2500", "--out", "many.npy")
    many = np.load("many.npy")
    assert (many.shape, many.dtype) == ((2500, 4, 4), np.float32)
    model, _, config = app.load_model(run)
    expected = model.generate(2500, rng=tg.noise(config.seed).at("samples"))
    np.testing.assert_allclose(many.reshape(2500, 16), expected, rtol=1e-5)


def test_the_end_says_what_was_reached_and_what_to_look_at(images, tmp_path, monkeypatch, capsys):
    out = said(capsys, 0, "train", "--data", images, *SMALL)
    found = json.loads((tmp_path / "runs/images/metrics.json").read_text())["held_out"]
    bits = {name: f"{abs(found[name]) / np.log(2):.1f} bits" for name in ("bound", "rate", "distortion")}
    for words in (
        f"the model needs {bits['bound']} on average",
        f"{bits['rate']} of them",
        f"{bits['distortion']} correct",
    ):
        assert words in out
    assert "the pixels alone take 16," in out
    assert "Look at runs/images/summary.png" in out
    assert "the steps ran" not in out
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    out = said(capsys, 0, "train", "--out", "runs/images", "--resume", "--epochs", "4", "--verbose")
    assert re.search(r"the steps ran compiled: \d+ calls", out)


@pytest.mark.filterwarnings("default")
def test_steps_that_cannot_be_compiled_say_why(images, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)

    def refuse(*_):
        raise PlanError("plan: the step looks at the number of a draw")

    monkeypatch.setattr(importlib.import_module("tinygrad_vae.compiled.plan"), "record", refuse)
    assert cli.main(["train", "--data", images, *SMALL]) == 0
    assert capsys.readouterr().err.count("tinygrad-vae: the steps run op by op, not compiled: plan: ") == 1


# ------------------------------------------------------------------------------- the process around it


def process(tmp_path, *words, shell="", **environment):
    """The exit code and the words of the command in a process of its own, in which a shell opens its streams."""
    command = f"exec {shlex.quote(sys.executable)} -m tinygrad_vae {shlex.join(words)} {shell}"
    found = subprocess.run(
        command, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ | environment
    )
    assert "Traceback" not in found.stderr
    return found.returncode, found.stderr


def test_a_closed_output_is_one_line(tmp_path):
    code, err = process(tmp_path, "explain", "--out", "a.svg", shell=">&-")
    assert (code, err) == (0, "tinygrad-vae: standard output is closed, and everything printed there is lost\n")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="it is Linux that has such a file")
def test_an_output_on_a_full_disk_is_one_line(tmp_path):
    code, err = process(tmp_path, "explain", "--out", "a.svg", shell="> /dev/full")
    assert (code, err.count("\n")) == (2, 1)
    assert "No space left on device" in err


def test_a_bad_backend_of_matplotlib_is_one_line(tmp_path):
    code, err = process(tmp_path, "estimators", MPLBACKEND="bogus")
    assert (code, err.count("\n")) == (2, 1)
    assert "matplotlib is installed, but cannot be imported: Key backend: 'bogus'" in err


def test_a_ctrl_c_while_the_command_is_imported_is_one_line(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        """
import sys

class Finder:
    def find_spec(self, name, *_):
        if name == "tinygrad_vae.vae":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Finder())
"""
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    code, err = process(tmp_path, "train", PYTHONPATH=path)
    assert (code in (130, -signal.SIGINT), err) == (True, "tinygrad-vae: interrupted\n")


def test_a_broken_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(optional.MissingExtraError, match=r'sklearn is needed.*pip install "tinygrad-vae\[train\]"'):
        tg.vae.VAEEstimator  # noqa: B018
