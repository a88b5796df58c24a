"""Files and settings that are malformed on purpose: whatever they hold, a message that names them, and no damage."""

import gzip
import io
import json
import shutil
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
import safetensors.numpy
from app_runs import GREY, SMALL, content, idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tinygrad_vae as tg
from tinygrad_vae import app, vae
from tinygrad_vae.app import checkpoint, cli, data, image_files, images, run_folder
from tinygrad_vae.app.config import RunError, TrainConfig, settings_in
from tinygrad_vae.guard.report import ESTIMATORS

MANY = [100, pytest.param(2_000, marks=pytest.mark.long)]


def tried(examples, *strategies):
    """Try a function on drawn values, always the same ones."""
    few = settings(max_examples=examples, deadline=None, database=None, derandomize=True)
    suppressed = settings(few, suppress_health_check=list(HealthCheck))
    return lambda function: suppressed(given(*strategies)(function))()


def outcome(refusal, function, *arguments, **options):
    """What the function returns, and the words in which it refuses; one of them is ``None``."""
    try:
        return function(*arguments, **options), None
    except refusal as error:
        return None, str(error)


# ------------------------------------------------------------------------------------------ data files

LENGTHS = st.sampled_from([0, 1, 2, 3, 4, 8, 9, 12, 28, 98, 255, 65_535, 2**31 - 1, 2**31, 2**32 - 1])
SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 9, 16, 20, 98]), max_size=4).filter(lambda s: np.prod(s) < 100_000)
KINDS = "u1 i1 <u2 >u2 <i4 >i8 <u8 <f2 <f4 >f4 <f8 <f16 ? <c8 <U3 S2 <M8[s] V4 O"
DTYPES = st.sampled_from([*KINDS.split(), [("a", "u1"), ("b", "f4")]])
FILLS = st.sampled_from([0, 1, 0.5, 2, 127, 255, 256, -1, -0.0, 1e-40, 1e300, np.nan, np.inf, -np.inf])


@st.composite
def idx_files(draw):
    """An IDX file whose header may lie, gzipped or not."""
    lengths = draw(st.lists(LENGTHS, max_size=5))
    magic = draw(st.sampled_from([b"\0\0\x08"] * 6 + [b"\0\0\x0d", b"\0\1\x08", b"\x93NU", b"PK\3", b""]))
    axes = draw(st.sampled_from([len(lengths)] * 6 + [0, 3, 255]))
    promised = int(np.prod([float(n) for n in lengths]))
    size = draw(st.sampled_from([promised] * 4 + [max(0, promised - 1), promised + 1, 0, 47])) % 70_000
    body = draw(st.sampled_from([b"\0", b"\xff", b"\x01\x00", b"\x10\xf0\x80"])) * size
    file = magic + bytes([axes]) + struct.pack(f">{len(lengths)}I", *lengths) + body[:size]
    if draw(st.booleans()):
        packed = gzip.compress(file, mtime=0)
        edit = draw(st.sampled_from(["whole", "whole", "cut", "twice", "trailing", "checksum", "empty member"]))
        file = {
            "whole": packed,
            "cut": packed[: draw(st.integers(0, len(packed)))],
            "twice": gzip.compress(packed, mtime=0),
            "trailing": packed + b"more",
            "checksum": packed[:-8] + struct.pack("<II", zlib.crc32(file) ^ 1, len(file)),
            "empty member": packed + gzip.compress(b"", mtime=0),
        }[edit]
    return file


@st.composite
def npy_files(draw, shape=SHAPES):
    """A NumPy file of any dtype and shape, whose header may lie."""
    dtype, dims = np.dtype(draw(DTYPES)), tuple(draw(shape))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        array = np.zeros(dims, dtype)
        if dtype.kind in "buif" and array.size:
            array[...] = np.asarray(draw(FILLS)).astype(dtype)
            array.reshape(-1)[draw(st.integers(0, array.size - 1))] = np.asarray(draw(FILLS)).astype(dtype)
        if draw(st.booleans()) and array.ndim > 1:
            array = np.asfortranarray(array)
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
    written = file.getvalue()
    lies = [(b"", b"")] * 5 + [(b"(", b"(9" * 9), (b"'descr'", b"'other'"), (b"False", b"Maybe"), (b"'<", b"'!")]
    old, new = draw(
        st.sampled_from([*lies, (b"\x01\x00", b"\x07\x00"), (b"NUMPY", b"PUMPY"), (b"shape': (", b"shape': (-")])
    )
    written = written.replace(old, new, 1) if old else written
    return written[: draw(st.sampled_from([None, None, None, -1, -7, 40, 9]))]


@st.composite
def npz_files(draw):
    """A zip file of such files, under names that count or do not, damaged or not."""
    names = [name for group in image_files.NAMES_IN_NPZ.values() for name in group]
    members = draw(st.lists(st.sampled_from([*names, "images", "images", "x", "../up"]), max_size=4))
    file = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(file, "w", draw(st.sampled_from([0, zipfile.ZIP_DEFLATED]))) as zipped,
    ):
        warnings.simplefilter("ignore")  # of two members of one name
        for name in members:
            shape = st.sampled_from([(40, 3, 3), (40, 9), (40,), (12, 9), (40, 98), (2, 3, 4)]) | SHAPES
            body = draw(npy_files(shape)) if draw(st.integers(0, 9)) else draw(st.binary(max_size=30))
            zipped.writestr(f"{name}{draw(st.sampled_from(['.npy'] * 9 + ['', '.NPY']))}", body)
    written = bytearray(file.getvalue())
    if not draw(st.integers(0, 3)):
        written[draw(st.integers(0, len(written) - 1))] ^= draw(st.integers(1, 255))
    return bytes(written[: draw(st.sampled_from([None, None, None, -1, -30, 33]))])


FILES = st.one_of(
    st.tuples(st.sampled_from(["images-idx3-ubyte", "images-idx3-ubyte.gz", "noname"]), idx_files()),
    st.tuples(st.just("images.npy"), npy_files()),
    st.tuples(st.just("images.npz"), npz_files()),
)
OPTIONS = st.sampled_from(
    [[], ["--binarise", "fixed"], ["--binarise", "fresh"]]
    + [["--binarise", "none", "--likelihood", name] for name in sorted(vae.LIKELIHOODS) if name != "bernoulli"]
)


@pytest.mark.parametrize("examples", MANY)
def test_a_malformed_data_file_is_trained_on_or_refused_by_name(examples, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)  # the pictures take long, and a file that was read is as any
    source, run = tmp_path / "data", tmp_path / "run"

    @tried(examples, FILES, OPTIONS)
    def check(file, options):
        shutil.rmtree(source, ignore_errors=True)
        shutil.rmtree(run, ignore_errors=True)
        source.mkdir()
        path = source / file[0]
        path.write_bytes(file[1])
        code = cli.main(["train", "--data", str(path), "--out", str(run), *SMALL, "1", *options])
        words = capsys.readouterr().err
        assert {path.name: path.read_bytes() for path in source.iterdir()} == {file[0]: file[1]}
        if code == 2:
            assert str(path) in words or "batch: 10 is more than" in words, words
            assert len(words.splitlines()) == 1, words
            assert not run.exists()
        else:
            assert code == 0, words  # whatever was let through can be trained on
            assert (run / run_folder.CHECKPOINT).exists()


# -------------------------------------------------------------------------------------- configurations

NAMES = sorted(TrainConfig.__dataclass_fields__)
SENSIBLE = {
    "binarise": st.sampled_from(data.BINARISATIONS),
    "hidden": st.lists(st.integers(1, 6), max_size=2),
    "latent": st.integers(1, 4),
    "activation": st.sampled_from(["relu", "tanh", "softplus", "sigmoid"]),
    "likelihood": st.sampled_from(sorted(vae.LIKELIHOODS)),
    "pixel_scale": st.floats(1e-3, 10),
    "posterior": st.sampled_from(sorted(vae.POSTERIORS)),
    "classes": st.integers(2, 4),
    "components": st.integers(0, 3),
    "objective": st.sampled_from(sorted(vae.BOUNDS)),
    "samples": st.integers(1, 3),
    "estimator": st.sampled_from(sorted(ESTIMATORS)),
    "beta": st.floats(0, 4),
    "beta_warm_up": st.integers(0, 3),
    "kl": st.sampled_from(vae.DIVERGENCES),
    "free_bits": st.floats(0, 2),
    "epochs": st.integers(1, 2),
    "batch": st.integers(1, 60),
    "learning_rate": st.floats(1e-6, 1e-1),
    "weight_decay": st.floats(0, 1),
    "schedule": st.sampled_from(["constant", "cosine", "stages"]),
    "warm_up": st.integers(0, 3),
    "clip": st.floats(0, 10),
    "patience": st.integers(0, 3),
    "seed": st.integers(0, 2**70),
}
ODD = st.sampled_from([0, -1, 1.5, 1e308, 2**63, 10**30, True, "", "x", "\0", [], [0], [1.5], {}, np.nan, -np.inf])
ODD_LINES = [
    b"latent = 2\nlatent = 3",
    b"\xff\xfe",
    b"latent = ",
    b"[model]\nlatent = 3",
    b"latnt = 3",
    b"=",
    b'"',
    b"latent = 07",
]


def toml_value(value):
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("{}", "{ }")


@pytest.mark.parametrize("examples", MANY)
def test_any_settings_train_or_are_refused_by_name(examples, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "_conclude", lambda *_: None)
    np.savez(tmp_path / "images.npz", images=(tg.noise(0).uniform((40, 3, 3)) * 255).astype(np.uint8))
    run, file = tmp_path / "run", tmp_path / "run.toml"

    @tried(
        examples,
        st.fixed_dictionaries({}, optional=SENSIBLE),
        st.dictionaries(st.sampled_from([*NAMES, "latnt", "", "a b"]), ODD, max_size=1),
        st.sampled_from([b""] * 8 + ODD_LINES),
    )
    def check(sensible, odd, line):
        shutil.rmtree(run, ignore_errors=True)
        chosen = {"data": str(tmp_path / "images.npz"), "hidden": [4], "latent": 2, "batch": 10, "epochs": 1}
        chosen |= sensible | odd
        text = "".join(f"{json.dumps(name)} = {toml_value(value)}\n" for name, value in chosen.items())
        file.write_bytes(text.encode() + line)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = cli.main(["train", "--config", str(file), "--out", str(run)])
        words = capsys.readouterr().err
        if code == 2:
            assert any(word in words for word in (*map(str, chosen), str(file), "binarise: ", "estimator: ")), words
            assert len(words.splitlines()) == 1, words
            assert not run.exists(), words
        elif code == 1:
            assert "diverged" in words, words
        else:
            assert code == 0, words
            assert (run / run_folder.CHECKPOINT).exists()


@pytest.mark.parametrize("examples", MANY)
def test_any_words_of_the_command_are_understood_or_refused(examples, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "begin", lambda config, folder: (_ for _ in ()).throw(RunError("stop here")))
    flags = [f"--{name.replace('_', '-')}" for name in NAMES]
    others = "--out --config --resume --print-config --latnt -h 3 0 -1 1e999 nan ä a,b elbo none 3,4 / . -- --epochs=3"
    words = st.sampled_from(flags) | st.sampled_from([*others.split(), "", "\ud800", "\udcff", "--epochs=x"])

    @tried(examples, st.lists(words, max_size=5))
    def check(chosen):
        try:
            code = cli.main(["train", *chosen])
        except SystemExit as stop:
            code = stop.code
        assert code in (0, 2)
        said = capsys.readouterr()
        assert said.out if code == 0 else said.err.startswith("tinygrad-vae")
        assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------- checkpoints


@st.composite
def edits_of_arrays(draw, names):
    """What to change in a dict of arrays: what is missing, too many, or of another shape, dtype or value."""
    kind = draw(st.sampled_from(["drop", "add", "shape", "dtype", "rename", "value", "empty", "integers"]))
    return kind, draw(st.sampled_from(names)), draw(FILLS)


def edited(arrays, kind, name, value):
    arrays = dict(arrays)
    array = arrays[name]
    if kind == "drop":
        del arrays[name]
    elif kind == "add":
        arrays[f"{name}.more"] = array
    elif kind == "rename":
        arrays[f"{name}s"] = arrays.pop(name)
    else:
        changed = {
            "shape": lambda: array.reshape(-1)[: array.size // 2],
            "dtype": lambda: array.astype(np.float64 if array.dtype != np.float64 else np.float32),
            "value": lambda: np.full_like(array, value),
            "empty": lambda: array.reshape(-1)[:0],
            "integers": lambda: array.astype(np.int32),
        }[kind]
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = changed()
    return arrays


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run folder that was trained, and what its checkpoint holds."""
    folder = tmp_path_factory.mktemp("runs")
    np.savez(folder / "images.npz", images=(tg.noise(0).uniform((40, 3, 3)) * 255).astype(np.uint8))
    config = TrainConfig(str(folder / "images.npz"), epochs=2, batch=10, hidden=(6,), latent=2, patience=2)
    app.train(*app.begin(config, folder / "run"))
    return folder / "run", checkpoint.load(folder / "run" / run_folder.CHECKPOINT)


@pytest.mark.parametrize("examples", MANY)
def test_a_checkpoint_whose_arrays_were_changed_is_used_whole_or_refused(examples, whole, tmp_path):
    folder, (arrays, facts) = whole
    run = tmp_path / "run"
    shutil.copytree(folder, run)

    @tried(examples, st.lists(edits_of_arrays(sorted(arrays)), min_size=1, max_size=2), st.booleans())
    def check(edits, checksum):
        changed = arrays
        for kind, name, value in edits:
            changed = edited(changed, kind, name, value) if name in changed else changed
        if checksum:
            checkpoint.save(run / run_folder.CHECKPOINT, changed, facts)
        else:  # written by another program, with the header that was there
            with safetensors.safe_open(str(folder / run_folder.CHECKPOINT), framework="numpy") as file:
                safetensors.numpy.save_file(changed, run / run_folder.CHECKPOINT, metadata=file.metadata())
        before = content(run)
        for read in (app.resume, app.load_model):
            found, words = outcome((checkpoint.CheckpointError, RunError), read, run)
            if found is None:
                assert "checkpoint.safetensors: " in words
            else:
                model = found[1].model if read is app.resume else found[0]
                assert all(np.isfinite(leaf).all() for leaf in tg.trees.leaves(model))
        assert content(run) == before


@pytest.mark.parametrize("examples", MANY)
def test_a_checkpoint_whose_bytes_were_changed_is_refused_by_every_command(examples, whole, tmp_path, capsys):
    folder, _ = whole
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    good = (run / run_folder.CHECKPOINT).read_bytes()
    length = int.from_bytes(good[:8], "little")
    commands = [["train", "--resume", "--out", str(run)], ["evaluate", str(run)]]
    commands += [["sample", str(run), "--out", str(tmp_path / "x.npy")]]

    @tried(
        examples,
        st.sampled_from(["flip", "cut", "length", "append", "header", "nothing"]),
        st.floats(0, 1),
        st.integers(0, 7),
        st.sampled_from([0, 1, length - 1, length + 1, 2**20, 2**63, 2**64 - 1]),
        st.sampled_from(commands),
    )
    def check(kind, place, bit, header, command):
        changed = bytearray(good)
        at = round(place * (len(good) - 1))
        if kind == "flip":
            changed[at] ^= 1 << bit
        elif kind == "cut":
            changed = changed[:at]
        elif kind == "length":
            changed[:8] = header.to_bytes(8, "little")
        elif kind == "append":
            changed += b"\0" * (1 + at % 9)
        elif kind == "header":
            changed[8 : 8 + length] = good[8 : 8 + length].replace(b"data_offsets", b"data_offsetz", 1)
        else:
            changed = bytearray()
        (run / run_folder.CHECKPOINT).write_bytes(changed)
        before = content(run)
        if changed != good:
            assert cli.main(command) == 2
            words = capsys.readouterr().err
            assert "checkpoint.safetensors: " in words
            assert len(words.splitlines()) == 1
        assert content(run) == before
        assert not (tmp_path / "x.npy").exists()


# ----------------------------------------------------------------------------- files damaged by accident


def written(save, *arguments, **options):
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


WHOLE_FILES = {
    "a.npy": written(np.save, GREY / 255),
    "b.npy": written(np.save, GREY),
    "a.npz": written(np.savez, images=GREY, labels=np.arange(40)),
    "b.npz": written(np.savez_compressed, x_train=GREY, x_test=GREY[:5]),
    "images-idx3-ubyte": idx(GREY),
    "images-idx3-ubyte.gz": gzip.compress(idx(GREY), mtime=0),
}

EDITS = st.lists(
    st.tuples(st.sampled_from(["replace", "insert", "cut", "end"]), st.floats(0, 1), st.binary(min_size=1, max_size=9)),
    min_size=1,
    max_size=4,
)


def damaged(content, edits):
    for kind, place, new in edits:
        at = round(place**2 * len(content))  # headers stand at the beginning
        if kind == "end":
            content = content[:at]
        else:
            content = content[:at] + (new if kind != "cut" else b"") + content[at + len(new) * (kind != "insert") :]
    return content


@pytest.mark.parametrize("examples", MANY)
def test_a_damaged_data_file_is_read_or_refused_by_name(examples, tmp_path):
    @tried(examples, st.sampled_from(sorted(WHOLE_FILES)), EDITS, st.sampled_from(data.BINARISATIONS))
    def check(name, edits, binarise):
        path = tmp_path / name
        path.write_bytes(damaged(WHOLE_FILES[name], edits))
        parts, words = outcome(images.DataError, data.load, path, binarise=binarise)
        assert words is None or str(path) in words
        for part in parts or ():
            assert part.pixels.shape == (len(part), part.size)
            assert ((part.pixels >= 0) & (part.pixels <= 1)).all()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["elbo", "none"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("examples", MANY)
def test_a_configuration_is_complete_and_survives_its_file_or_is_refused(examples, tmp_path):
    path = tmp_path / "run.toml"

    @tried(examples, st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
    def check(chosen):
        config, words = outcome(RunError, TrainConfig, **chosen)
        assert config or any(name in words for name in chosen)
        if config:
            path.write_text(config.to_toml())
            assert TrainConfig(**settings_in(path)) == config


@pytest.mark.parametrize("examples", MANY)
def test_a_damaged_configuration_file_is_read_or_refused_by_name(examples, tmp_path):
    path = tmp_path / "run.toml"

    @tried(examples, EDITS)
    def check(edits):
        path.write_bytes(damaged(TrainConfig().to_toml().encode(), edits))
        found, words = outcome(RunError, settings_in, path)
        if found is None:
            assert str(path) in words
        else:
            outcome(RunError, TrainConfig, **found)

    @tried(examples, st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
    def check_anything(text):
        path.write_bytes(text)
        _, words = outcome(RunError, settings_in, path)
        assert words is None or str(path) in words


@pytest.mark.parametrize("examples", MANY)
def test_a_damaged_checkpoint_is_refused_and_left_as_it_is(examples, config, tmp_path):
    run, _ = app.begin(config, tmp_path / "run")
    whole = run.checkpoint.read_bytes()

    @tried(examples, EDITS)
    def check(edits):
        run.checkpoint.write_bytes(damaged(whole, edits))
        before = content(run.folder)
        if before[run_folder.CHECKPOINT] != whole:
            for read in (app.resume, app.load_model):
                with pytest.raises(checkpoint.CheckpointError, match=r"run/checkpoint\.safetensors: "):
                    read(run.folder)
        assert content(run.folder) == before


@pytest.mark.parametrize("examples", MANY)
def test_a_checkpoint_of_something_else_is_refused(examples, config, tmp_path):
    run, _ = app.begin(config, tmp_path / "run")
    arrays, facts = checkpoint.load(run.checkpoint)
    entries = st.sampled_from([*facts, *NAMES]) | st.text(max_size=5)
    finite = VALUES.filter(lambda value: "NaN" not in json.dumps(value) and "Infinity" not in json.dumps(value))

    @tried(examples, st.dictionaries(entries, finite, max_size=2), st.booleans())
    def check(changed, inside):
        checkpoint.save(run.checkpoint, arrays, facts | ({"config": facts["config"] | changed} if inside else changed))
        for read in (app.resume, app.load_model):
            outcome((checkpoint.CheckpointError, RunError, images.DataError), read, run.folder)
