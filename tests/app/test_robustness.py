"""A run survives what befalls it: kills, full disks, a second process."""

import collections
import contextlib
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from app_runs import GREY, SMALL, SMALL_PICTURES, content, finished, in_the_sixth_step, npy

from tinygrad_vae import app
from tinygrad_vae.app import checkpoint, cli, figures, lock, loop, run_folder, stopping
from tinygrad_vae.app.config import RunError
from tinygrad_vae.app.run import CHECKPOINT

# --------------------------------------------------------------------------------------------- kill -9


@pytest.mark.parametrize(
    ("kills", "program"),
    [(3, SMALL_PICTURES), pytest.param(100, ["-m", "tinygrad_vae"], marks=pytest.mark.long)],
)
def test_a_run_killed_at_random_moments_ends_as_one_that_was_not(kills, program, config, tmp_path):
    command = [sys.executable, *program, "train"]
    flags = ["--data", config.data, *SMALL, "120", "--patience", "1000"]
    begun = time.monotonic()
    subprocess.run([*command, *flags, "--out", tmp_path / "undisturbed"], check=True, capture_output=True)
    whole = time.monotonic() - begun  # from the start of Python to the last picture
    moments, run, landed = random.Random(kills), tmp_path / "run", []
    while len(landed) < kills or run.exists():
        rest = ["--resume"] if (run / run_folder.CHECKPOINT).exists() else flags
        process = subprocess.Popen([*command, *rest, "--out", run], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if len(landed) < kills:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, whole))
            process.kill()
        _, words = process.communicate()
        if process.returncode == -signal.SIGKILL:
            landed.append(_stage(run))
        else:
            assert process.returncode == 0, words
            assert content(run) == content(tmp_path / "undisturbed"), f"after kills {landed}"
            shutil.rmtree(run)
    print(f"{kills} kills: {dict(collections.Counter(landed))}")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_any_moment_leaves_a_whole_state_and_one_line(number, config, tmp_path):
    command = [sys.executable, "-m", "tinygrad_vae", "train"]
    flags = ["--data", config.data, *SMALL, "120", "--patience", "1000"]
    begun = time.monotonic()
    subprocess.run([*command, *flags, "--out", tmp_path / "undisturbed"], check=True, capture_output=True)
    whole = time.monotonic() - begun
    moments, run, landed = random.Random(number), tmp_path / "run", []
    while len(landed) < 40 or run.exists():
        rest = ["--resume"] if (run / run_folder.CHECKPOINT).exists() else flags
        process = subprocess.Popen([*command, *rest, "--out", run], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if len(landed) < 40:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0.1 * whole, whole))  # before that Python itself begins
            process.send_signal(number)
        words = process.communicate()[1].decode()
        if process.returncode == 0:
            assert content(run) == content(tmp_path / "undisturbed"), f"after {landed}"
            shutil.rmtree(run)
        else:
            assert process.returncode in (128 + number, -number), words
            said = [line for line in words.splitlines() if not line.startswith(("epoch ", "To go on: "))]
            assert len(said) <= 1, words
            assert all(line.startswith("tinygrad-vae: ") for line in said), words
            landed.append(said)


def _stage(run):
    """How far a killed run came."""
    if not (run / run_folder.CHECKPOINT).exists():
        return "before the first state"
    _, facts = checkpoint.load(run / run_folder.CHECKPOINT)
    if facts["step"] < 120 * 4:
        return "while training"
    return "while pictures were drawn" if (run / run_folder.NUMBERS[0]).exists() else "while it was evaluated"


def killed_in_children(body, values):
    """Run ``body`` with each ``value`` in a process of its own, in which it must come to a kill; Python starts once."""
    script = f"""
import os, signal
import matplotlib.figure, matplotlib.image
from tinygrad_vae import app
from tinygrad_vae.app import figures
figures.WIDEST, figures.DPI = 100, 30
for value in {values!r}:
    child = os.fork()
    if not child:
{textwrap.indent(body, 8 * " ")}
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, value
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_kill_in_the_middle_of_a_save_leaves_a_whole_state(config, undisturbed, tmp_path):
    body = f"""
from tinygrad_vae.app import TrainConfig
run, state = app.begin({config!r}, {str(tmp_path)!r} + "/" + value)
setattr(os, value, lambda *arguments, **options: os.kill(os.getpid(), signal.SIGKILL))
app.train(run, state)
"""
    calls = ["fsync", "replace", "unlink"]
    killed_in_children(body, calls)
    for call in calls:
        app.train(*app.resume(tmp_path / call))
        assert (tmp_path / call / run_folder.CHECKPOINT).read_bytes() == undisturbed
        assert {path.name for path in (tmp_path / call).iterdir()} == {run_folder.CHECKPOINT, *run_folder.RECORDS}


def test_kills_while_numbers_and_pictures_are_written_leave_nothing_behind(config, tmp_path):
    finished(config, tmp_path / "run")
    body = f"""
run, state = app.resume({str(tmp_path / "run")!r})
replace, left = os.replace, list(range(value))
os.replace = lambda *names: replace(*names) if left and left.pop() is not None else os.kill(os.getpid(), signal.SIGKILL)
app.conclude(run, state, draws=2)
"""
    killed_in_children(body, [0, 2, 5])
    run, state = app.resume(tmp_path / "run")
    app.conclude(run, state, draws=2)
    assert {path.name for path in run.folder.iterdir()} == set(run_folder.OUTPUTS)


# ----------------------------------------------------------------------------------------- a full disk


@contextlib.contextmanager
def no_file_larger_than(size):
    """Writing beyond it fails, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_disk_that_fills_up_costs_no_more_than_what_was_not_saved(config, undisturbed, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    before = content(run.folder)
    with no_file_larger_than(1000), pytest.raises(loop.SaveError, match=r"after step 4 cannot be saved.*--resume"):
        app.train(run, state)
    assert content(run.folder) == before
    app.train(*app.resume(run.folder))
    assert run.checkpoint.read_bytes() == undisturbed


def test_a_run_does_not_begin_on_a_full_disk_and_can_begin_later(config, tmp_path):
    with no_file_larger_than(1000), pytest.raises(RunError, match="run: the output folder cannot be written"):
        app.begin(config, tmp_path / "run")
    assert content(tmp_path / "run") == {}
    app.begin(config, tmp_path / "run")


def test_pictures_and_numbers_are_written_whole_or_not_at_all(config, tmp_path, capsys):
    run, state = app.begin(config, tmp_path / "run")
    app.conclude(run, state, draws=2)
    before = content(run.folder)
    state = app.train(run, state)
    before[run_folder.CHECKPOINT] = run.checkpoint.read_bytes()
    with no_file_larger_than(100):
        assert cli.main(["evaluate", str(run.folder), "--samples", "2"]) == 2
    assert re.search(r"File too large: '.*/run/held_out\.npz'\n$", capsys.readouterr().err)
    assert content(run.folder) == before


# ------------------------------------------------------------------------------------ a second process


def test_a_run_in_use_is_left_alone(config, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    before = content(run.folder)
    with lock.locked(run.folder):
        with pytest.raises(lock.LockedError, match=rf"run: process {os.getpid()} on .* is writing there"):
            app.train(run, state)
        with pytest.raises(lock.LockedError, match="is writing there"):
            app.begin(config, run.folder.parent / "other" / ".." / "run")
        with pytest.raises(lock.LockedError, match="is writing there"):
            app.conclude(run, state, draws=2)
    assert content(run.folder) == before


def test_the_lock_of_a_dead_process_is_taken_over(config, tmp_path):
    script = f"""
import os, signal
from tinygrad_vae.app.lock import locked
with locked({str(tmp_path)!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    assert "process" in (tmp_path / lock.LOCK).read_text()
    with lock.locked(tmp_path):
        assert f"process {os.getpid()} " in (tmp_path / lock.LOCK).read_text()
    assert not (tmp_path / lock.LOCK).exists()


def test_of_many_that_want_the_lock_one_has_it(tmp_path):
    inside, most = [], []

    def want():
        for _ in range(200):
            with contextlib.suppress(lock.LockedError), lock.locked(tmp_path):
                inside.append(None)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=want) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}  # somebody got in, and never two at once


def test_a_state_older_than_the_one_on_the_disk_is_not_trained_further(config, tmp_path):
    finished(config, tmp_path / "run")
    before = content(tmp_path / "run")
    run, _ = app.resume(tmp_path / "run")
    _, old = app.begin(config, tmp_path / "other")
    with pytest.raises(RunError, match="another process has gone on with this run"):
        app.train(run, old)
    assert content(tmp_path / "run") == before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the allocator of glibc")
def test_memory_that_a_step_frees_is_kept_for_the_next():
    program = """
import resource
import numpy as np
import tinygrad_vae as tg

tg.optim.SGD(0.1).init({"w": np.ones(1)})

def step():
    kept = [np.ones(2**19) for _ in range(4)]
    return [x + 1 for x in kept]

step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pages = 20 * 8 * 2**22 / resource.getpagesize()
    assert int(found.stdout) < pages / 20  # without it more than half are asked for again


def test_a_run_folder_that_is_removed_is_not_a_full_disk(config, tmp_path):
    run, state = app.begin(config, tmp_path / "run")
    with pytest.raises(loop.SaveError, match="run: the run folder was removed or renamed") as refused:
        app.train(run, state, report=lambda _: shutil.rmtree(run.folder, ignore_errors=True))
    assert "space" not in str(refused.value)


def test_a_disk_that_is_full_when_pictures_are_made_leaves_a_trained_run(images, undisturbed, tmp_path, capsys):
    words = ["train", "--data", images, "--out", "run", *SMALL, "3"]
    size = 4 * len(undisturbed)
    with no_file_larger_than(size):  # which the figures are and the state is not
        assert cli.main(words) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"the run is trained, run/check.* holds its last state, but .* cannot be written: .*png", err)
    assert "Once they can: tinygrad-vae evaluate run" in err
    assert app.resume("run")[1].step == 12
    assert cli.main(["evaluate", "run", "--samples", "2"]) == 0


# -------------------------------------------------------------------------------------------- signals


@pytest.fixture(params=["SIGINT", "SIGTERM", "SIGHUP"])
def number(request, monkeypatch):
    """A signal that stops a process, heard also where the tests run in the background or under nohup."""
    number = getattr(signal, request.param)
    before = signal.signal(number, signal.default_int_handler if request.param == "SIGINT" else signal.SIG_DFL)
    yield number
    signal.signal(number, before)


def stopped(capsys, number, step, of):
    assert capsys.readouterr().err.splitlines()[-2:] == [
        f"tinygrad-vae: stopped; run/checkpoint.safetensors holds the state after step {step} of {of}",
        "To go on: tinygrad-vae train --out run --resume",
    ]


def test_a_signal_in_a_step_saves_and_says_where(number, config, undisturbed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        in_the_sixth_step(patch, lambda step, args: signal.raise_signal(number))
        assert cli.main(["train", "--data", config.data, "--out", "run", *SMALL, "3"]) == 128 + number
    stopped(capsys, number, 5, 12)  # the first call was on trial
    assert signal.getsignal(number) is handler
    assert cli.main(["train", "--out", "run", "--resume"]) == 0
    assert (tmp_path / "run" / CHECKPOINT).read_bytes() == undisturbed


def test_a_signal_while_pictures_are_made_leaves_a_trained_run(number, images, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(figures, "sheet", lambda *_: signal.raise_signal(number))
        assert cli.main(["train", "--data", images, "--out", "run", *SMALL, "2"]) == 128 + number
    stopped(capsys, number, 8, 8)
    assert app.resume("run")[1].step == 8


@pytest.mark.usefixtures("_listening")
def test_a_signal_waits_for_the_end_of_a_step_and_a_second_one_does_not():
    for signals, then in ((1, "end"), (2, "at once")):
        reached = "at once"
        with pytest.raises(KeyboardInterrupt):
            with stopping.signals_wait():
                for _ in range(signals):
                    signal.raise_signal(signal.SIGINT)
                reached = "end"
        assert reached == then
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_falls_into_a_callback_is_not_lost(number, capfd):
    class Dying:
        def __del__(self):
            signal.raise_signal(number)

    with stopping.signals_stop(), pytest.raises(KeyboardInterrupt):
        Dying()
        time.sleep(60)
    assert capfd.readouterr().err == ""


# ------------------------------------------------------------------------------- a run that was changed


def test_a_run_whose_data_moved_is_evaluated_and_resumed(images, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    assert cli.main(["train", "--data", images, "--out", "run", *SMALL, "2"]) == 0
    (tmp_path / images).rename(tmp_path / "moved.npz")
    (tmp_path / "another.npy").write_bytes(npy(255 - GREY))
    assert cli.main(["evaluate", "run"]) == 2
    assert "images.npz; say where with --data" in capsys.readouterr().err
    for words in (["evaluate", "run"], ["train", "--out", "run", "--resume", "--epochs", "3"]):
        assert cli.main([*words, "--data", "another.npy"]) == 2
        assert "another.npy: the images are not those" in capsys.readouterr().err
        assert cli.main([*words, "--data", "moved.npz"]) == 0
    config = app.resume("run")[0].config  # it remembers
    assert (config.epochs, config.data) == (3, str(tmp_path / "moved.npz"))


def test_a_run_in_a_folder_that_is_not_to_be_written_is_evaluated_elsewhere(folder, tmp_path, capsys):
    (folder / lock.LOCK).mkdir()  # the folder cannot be locked, and nothing is written where it would have to be
    before = sorted(folder.iterdir())
    assert cli.main(["evaluate", str(folder), "--out", str(tmp_path / "a" / "b"), "--samples", "2"]) == 0
    assert sorted(folder.iterdir()) == before
    written = {path.name for path in (tmp_path / "a" / "b").iterdir()}
    assert written == {*run_folder.OUTPUTS} - {CHECKPOINT, *run_folder.RECORDS}
    assert cli.main(["compare", str(folder), str(tmp_path / "a" / "b")]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", str(folder), str(folder), "--out", str(tmp_path / "a")]) == 2
    assert "--out: takes the results of one run, found 2" in capsys.readouterr().err


def test_results_are_not_written_into_the_folder_of_another_run(folder, kept, capsys):
    before = content(kept)
    assert cli.main(["evaluate", str(folder), "--out", str(kept)]) == 2
    assert "holds another run" in capsys.readouterr().err
    assert content(kept) == before


def test_an_edited_configuration_is_neither_ignored_nor_overwritten_in_silence(folder, capsys):
    path = folder / "config.toml"
    written = path.read_text()
    path.write_text(written.replace("latent = 2", "latent = 3"))
    for read in (app.resume, app.load_model):
        with pytest.raises(RunError, match=r"this run has latent 2, 3 stands in .*config\.toml, which was edited"):
            read(folder)
    path.write_text(written.replace("epochs = 3", "epochs = 4"))
    run, state = app.resume(folder)
    assert app.train(run, state).step == 16
    path.write_text("# mine\n" + path.read_text())
    app.train(*app.resume(folder))
    assert path.read_text().startswith("# mine")
    with pytest.warns(UserWarning, match=r"config\.toml: was edited, and is written anew"):
        app.train(*app.resume(folder, epochs=5))
    assert "epochs = 5" in path.read_text()
    path.write_text("epochs = ")
    with pytest.raises(RunError, match=r"config\.toml: cannot be read as a configuration file"):
        app.resume(folder)
