"""Checkpoints: one file is one state, written whole or not at all, and a bad one is refused with one message."""

import errno
import json
import os

import numpy as np
import pytest
import safetensors.numpy

from tinygrad_vae.app import checkpoint
from tinygrad_vae.app.checkpoint import CheckpointError

TREE = {
    "model": [np.arange(6, dtype=np.float32).reshape(2, 3).T, np.float32(0.1)],
    "state": {"step": np.array(3)},
}
FACTS = {"step": 3, "history": [{"bound": -0.1 - 1e-17}], "name": "ü"}


@pytest.fixture
def path(tmp_path):
    checkpoint.save(tmp_path / "last.safetensors", TREE, FACTS)
    return tmp_path / "last.safetensors"


def test_what_was_saved_comes_back_bit_for_bit(path):
    arrays, facts = checkpoint.load(path)
    assert facts == FACTS
    tree = checkpoint.fill(TREE, arrays, path)
    for found, saved in zip((*tree["model"], tree["state"]["step"]), (*TREE["model"], np.array(3)), strict=True):
        assert (found.dtype, found.shape) == (saved.dtype, saved.shape)
        np.testing.assert_array_equal(found, saved)


def test_the_same_state_gives_the_same_bytes(path, tmp_path):
    checkpoint.save(tmp_path / "again", TREE, FACTS)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(failing, path, monkeypatch):
    before = path.read_bytes()

    def fail(*_):
        raise OSError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match=f"the disk is full.*{path.name}"):
        checkpoint.save(path, {"w": np.ones(1000)}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_facts_that_json_cannot_hold_are_refused_before_anything_is_written(path):
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.save(path, TREE, {"bound": float("nan")})
    assert path.read_bytes() == before


def test_no_such_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path)


def test_every_truncation_is_refused(path):
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.load(path)


def test_every_flipped_byte_is_noticed(path):
    content = path.read_bytes()
    for i in range(len(content)):
        path.write_bytes(content[:i] + bytes([content[i] ^ 1]) + content[i + 1 :])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


def test_foreign_files(path, tmp_path):
    (tmp_path / "text").write_text("these are not the weights that you are looking for")
    with pytest.raises(CheckpointError, match="text: cannot be read"):
        checkpoint.load(tmp_path / "text")
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "foreign")
    with pytest.raises(CheckpointError, match="not a checkpoint that this library wrote"):
        checkpoint.load(tmp_path / "foreign")
    header = json.dumps({"version": 99, "checksum": 0, "facts": "{}"})
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "newer", metadata={checkpoint.FORMAT: header})
    with pytest.raises(CheckpointError, match=r"version 99.*version 1"):
        checkpoint.load(tmp_path / "newer")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"w": np.ones(2), "b": np.ones(1)}, "b is missing"),
        ({}, "w has no place"),
        ({"w": np.ones(3)}, r"w is float64 of shape \(2,\), this model has float64 of shape \(3,\)"),
        ({"w": np.ones(2, np.float32)}, "this model has float32"),
    ],
)
def test_a_checkpoint_of_another_model(template, words):
    with pytest.raises(CheckpointError, match=words):
        checkpoint.fill(template, {"w": np.ones(2)}, "last")


@pytest.mark.parametrize(
    "facts",
    ["no JSON", "[" * 200_000 + "]" * 200_000, '{"step": ' + "7" * 5_000 + "}", 7, None],
    ids=["no JSON", "nested deep", "many digits", "a number", "nothing"],
)
def test_crafted_facts_are_refused_though_their_checksum_is_right(facts, tmp_path):
    checksum = checkpoint._checksum({"w": np.ones(2)}, facts if isinstance(facts, str) else "")
    header = json.dumps({"version": 1, "checksum": checksum, "facts": facts})
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "crafted", metadata={checkpoint.FORMAT: header})
    with pytest.raises(CheckpointError, match=r"crafted: .* cannot be read") as refused:
        checkpoint.load(tmp_path / "crafted")
    assert len(str(refused.value)) < 500


def test_a_header_that_is_nested_deep_is_refused(tmp_path):
    header = "[" * 200_000
    safetensors.numpy.save_file({"w": np.ones(2)}, tmp_path / "deep", metadata={checkpoint.FORMAT: header})
    with pytest.raises(CheckpointError, match="deep: the header cannot be read"):
        checkpoint.load(tmp_path / "deep")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe: cannot be read as a checkpoint, it is not a file"):
        checkpoint.load(tmp_path / "pipe")
