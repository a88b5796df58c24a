"""The images that training reads: what each source gives, and what a bad one gets."""

import gzip
import importlib.util
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from app_runs import idx
from PIL import Image

import tinygrad_vae as tg
from tinygrad_vae.app import data, image_files
from tinygrad_vae.app import images as pictures

GREY = np.random.default_rng(0).integers(0, 256, (12, 5, 5), dtype=np.uint8)
BITS = (GREY >= 128).astype(np.float32).reshape(12, 25)
LABELS = np.arange(12, dtype=np.uint8) % 10


def read(path):
    """All images of a source, in the order in which the source holds them."""
    images, held_out = data.read(path)
    assert held_out is None
    return images


# ------------------------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("is_found", [True, False])
def test_the_bundled_digits_are_ones_from_half_of_the_full_scale_on(is_found, monkeypatch):
    from sklearn.datasets import load_digits

    grey = load_digits()
    if not is_found:  # where scikit-learn keeps its file elsewhere, it is asked for them
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    images = read("digits")
    assert images.pixels.dtype == np.float32
    np.testing.assert_array_equal(images.pixels, grey.data >= 8)
    np.testing.assert_array_equal(images.labels, grey.target)


def test_the_split_holds_every_image_once_and_follows_the_seed():
    whole = read("digits")
    train, held_out = data.load("digits", seed=3)
    both = np.concatenate([train.pixels, held_out.pixels])
    np.testing.assert_array_equal(np.sort(both @ np.arange(64)), np.sort(whole.pixels @ np.arange(64)))
    assert len(held_out) == round(len(whole) * data.HELD_OUT)
    again, _ = data.load("digits", seed=3)
    other, _ = data.load("digits", seed=4)
    np.testing.assert_array_equal(again.pixels, train.pixels)
    assert not np.array_equal(other.pixels, train.pixels)


def test_labels_stay_with_their_images():
    numbered = pictures.Images(np.repeat(LABELS[:, None], 4, axis=1).reshape(-1, 2, 2), LABELS, grey=True)
    for part in (numbered, numbered[tg.noise(0).permutation(12)[:7]]):
        np.testing.assert_array_equal(part.pixels[:, 0], part.labels)
        np.testing.assert_array_equal(part[2:][::-1].pixels[:, 0], part.labels[2:][::-1])


@pytest.mark.parametrize(
    "array",
    [GREY, GREY.reshape(12, 25), GREY.astype(np.int64), GREY / np.float32(255), GREY >= 128, BITS, BITS.astype(int)],
    ids=["bytes", "flat", "whole numbers", "floats", "booleans", "0.0 and 1.0", "0 and 1"],
)
def test_every_kind_of_grey_level_gives_the_same_bits(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    images = read(tmp_path / "a.npy")
    assert (images.shape, images.pixels.dtype) == ((5, 5), np.float32)
    np.testing.assert_array_equal(images.pixels, BITS)


def test_half_of_the_full_scale_is_a_one(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0.0, 0.49, 0.5, 1.0]]))
    np.testing.assert_array_equal(read(tmp_path / "a.npy").pixels, [[0, 0, 1, 1]])
    np.save(tmp_path / "a.npy", np.array([[0, 127, 128, 255]]))
    np.testing.assert_array_equal(read(tmp_path / "a.npy").pixels, [[0, 0, 1, 1]])


def test_packed_bits_are_unpacked(tmp_path):
    bits = np.random.default_rng(1).integers(0, 2, (6, 784), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", train=np.packbits(bits, axis=1), test=np.packbits(bits[:2], axis=1))
    train, held_out = data.load(tmp_path / "a.npz")
    assert train.shape == held_out.shape == (28, 28)
    np.testing.assert_array_equal(train.pixels, bits)
    np.testing.assert_array_equal(held_out.pixels, bits[:2])


def test_no_width_can_be_both_a_square_and_packed_bits():
    assert not [w for w in range(1, 10_000) if pictures.square_side(w) and pictures.square_side(8 * w)]


def test_images_need_not_be_square_where_they_have_rows_and_columns(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY[:, :3], labels=LABELS)
    images = read(tmp_path / "a.npz")
    assert images.shape == (3, 5)
    np.testing.assert_array_equal(images.labels, LABELS)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
@pytest.mark.parametrize("mark", "-.")
def test_idx_files_alone_with_their_labels_or_as_a_folder(mark, packed, tmp_path):
    def write(name, array):
        name = name.replace("-idx", f"{mark}idx")
        path = tmp_path / (name + ".gz" if packed else name)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
        return path

    path = write("train-images-idx3-ubyte", GREY)
    assert read(path).labels is None
    write("train-labels-idx1-ubyte", LABELS)
    np.testing.assert_array_equal(read(path).pixels, BITS)
    np.testing.assert_array_equal(read(path).labels, LABELS)
    write("t10k-images-idx3-ubyte", GREY[:4])
    train, held_out = data.load(tmp_path)
    assert (len(train), len(held_out)) == (12, 4)


# --------------------------------------------------------------------------- what bad input gets


def refused(path, *words):
    with pytest.raises(pictures.DataError) as caught:
        data.load(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_an_unknown_path(tmp_path):
    refused(tmp_path / "nowhere.npz", "no such file", '"digits"')
    refused(tmp_path, "train-images-idx3-ubyte")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((0, 5, 5), np.uint8), ["no images", "(0, 5, 5)"]),
        (np.full((4, 9), 1.5), ["from 0 to 1", "1.5", "(0, 0)"]),
        (np.full((4, 9), np.nan), ["nan"]),
        (np.full((4, 9), -1), ["-1"]),
        (np.full((4, 9), 300), ["from 0 to 255", "300"]),
        (np.full((4, 9), 16), ["16", "would be empty"]),
        (np.ones((4, 10)), ["10 pixels", "(n, rows, columns)"]),
        (np.ones(9), ["shape (9,)"]),
        (np.ones((4, 9), complex), ["complex128"]),
        (np.full((4, 9), "a"), ["<U1"]),
        (np.full((4, 9), None), ["plain numbers"]),
        (np.ones((1, 9)), ["1 image "]),
        (np.ones((2, 9)), ["2 images "]),
    ],
)
def test_an_array_that_holds_no_images(array, words, tmp_path):
    np.save(tmp_path / "a.npy", array)
    refused(tmp_path / "a.npy", *words)


def test_an_npz_names_the_arrays_it_holds(tmp_path):
    np.savez(tmp_path / "a.npz", digits=GREY)
    refused(tmp_path / "a.npz", "images or x_train or train", "digits")
    np.savez(tmp_path / "b.npz", images=GREY, labels=LABELS[:5])
    refused(tmp_path / "b.npz", "images", "12 images", "shape (5,)")
    np.savez(tmp_path / "c.npz", images=GREY, test=GREY[:, :4])
    refused(tmp_path / "c.npz", "5 x 5", "4 x 5")
    for name in ("images", "labels"):
        np.savez(tmp_path / "d.npz", **({} if name == "images" else {"images": GREY}))
        with zipfile.ZipFile(tmp_path / "d.npz", "a") as zipped:
            zipped.writestr(f"{name}.npy", b"no array")
        refused(tmp_path / "d.npz", f"{name} is no array")


def test_truncated_and_foreign_files(tmp_path):
    np.savez(tmp_path / "a.npz", images=GREY)
    np.save(tmp_path / "a.npy", GREY)
    (tmp_path / "a.idx").write_bytes(idx(GREY))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx(GREY)))
    for path in sorted(tmp_path.iterdir()):
        content = path.read_bytes()
        for length in (0, 3, 10, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            refused(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\3\4 and so on", ["starts with 50 4b 03 04", ".npz"]),
        (b"\0\0\x0d\3" + bytes(12), ["starts with 00 00 0d 03"]),
        (idx(GREY) + b"more", ["(12, 5, 5)", "316 bytes", "found 320"]),
        (idx(LABELS), ["1 axes"]),
        (idx(GREY[:0]), ["no images"]),
        (b"\0\0\x08\3" + struct.pack(">3I", 0, 2**32 - 1, 2**32 - 1), ["no images, its shape is (0, 4294967295,"]),
        (idx(GREY)[:9], ["header", "9 of 16"]),
    ],
    ids=["zip", "floats", "too long", "labels", "empty", "empty and too big", "short header"],
)
def test_an_idx_file_that_is_none(content, words, tmp_path):
    (tmp_path / "images").write_bytes(content)
    refused(tmp_path / "images", *words)


# ------------------------------------------------------------------------- how grey levels become pixels


@pytest.fixture
def grey_file(tmp_path):
    np.savez(tmp_path / "grey.npz", images=np.repeat(GREY, 40, axis=0), held_out=np.repeat(GREY, 40, axis=0)[::-1])
    return tmp_path / "grey.npz"


def test_grey_levels_are_kept_where_nothing_is_binarised(grey_file):
    train, held_out = data.load(grey_file, binarise="none")
    expected = np.repeat(GREY, 40, axis=0).reshape(-1, 25) / np.float32(255)
    assert train.pixels.dtype == np.float32
    np.testing.assert_array_equal(train.pixels, expected)
    np.testing.assert_array_equal(held_out.pixels, expected[::-1])
    digits, _ = data.load("digits", binarise="none")
    np.testing.assert_array_equal(np.unique(digits.pixels), np.arange(17) / 16)


def test_fixed_bits_are_drawn_once_with_the_grey_levels_for_probabilities(grey_file):
    train, held_out = data.load(grey_file, binarise="fixed")
    for part, grey in zip((train, held_out), data.load(grey_file, binarise="none"), strict=True):
        bits, probabilities = part.pixels, grey.pixels
        assert set(np.unique(bits)) == {0, 1}
        np.testing.assert_array_equal(bits, part.pixels)
        error = np.sqrt((probabilities * (1 - probabilities)).sum())
        assert abs((bits - probabilities).sum()) < 4.5 * error
        assert abs(((bits - probabilities) * probabilities).sum()) < 4.5 * error
    other, _ = data.load(grey_file, binarise="fixed", seed=1)
    assert not np.array_equal(other.pixels, train.pixels)
    np.testing.assert_array_equal(data.load(grey_file, binarise="fixed")[0].pixels, train.pixels)


def test_fresh_bits_are_left_to_whoever_trains_and_the_held_out_ones_are_fixed(grey_file):
    train, held_out = data.load(grey_file, binarise="fresh")
    np.testing.assert_array_equal(train.pixels, data.load(grey_file, binarise="none")[0].pixels)
    np.testing.assert_array_equal(held_out.pixels, data.load(grey_file, binarise="fixed")[1].pixels)
    drawn = [pictures.binarise(train.pixels, tg.noise(0).at("step", k)) for k in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_faint_images_are_refused_by_the_threshold_alone(tmp_path):
    np.save(tmp_path / "faint.npy", np.full((20, 9), 0.4))
    refused(tmp_path / "faint.npy", "would be empty")
    assert data.load(tmp_path / "faint.npy", binarise="none")[0].pixels.max() == np.float32(0.4)
    with pytest.raises(
        pictures.DataError, match="binarise: expected threshold or fixed or fresh or none, found 'dither'"
    ):
        data.load(binarise="dither")


@pytest.mark.parametrize("name", ["a.npy", "train-images-idx3-ubyte"])
def test_a_large_file_is_mapped_and_gives_the_same_pixels(name, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_bytes(idx(GREY)) if "idx" in name else np.save(path, GREY)
    monkeypatch.setattr(pictures, "AT_ONCE", 5)
    whole = data.load(path, seed=1)
    monkeypatch.setattr(image_files, "LARGE", 1)
    for mapped, part in zip(data.load(path, seed=1), whole, strict=True):
        assert isinstance(mapped.levels, np.memmap)
        np.testing.assert_array_equal(mapped.pixels, part.pixels)
        assert mapped.fingerprint() == part.fingerprint()
    refused_at = np.where(np.arange(12)[:, None, None] == 7, np.nan, GREY / 255)
    np.save(tmp_path / "nan.npy", refused_at)
    refused(tmp_path / "nan.npy", "found nan at index (7, 0, 0)")
    (tmp_path / "long").write_bytes(idx(GREY) + b"more")
    refused(tmp_path / "long", "316 bytes in all, found 320")


def test_a_header_that_promises_too_much_asks_for_no_memory(tmp_path):
    header = b"\0\0\x08\3" + struct.pack(">3I", *[2**32 - 1] * 3)
    for name, content in (("plain", header), ("packed", gzip.compress(header))):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "promises shape (4294967295, 4294967295, 4294967295)", "truncated")


def test_nobody_is_told_how_to_run_the_code_in_a_file(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[{}]]), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps([1]))
    (tmp_path / "noise.npz").write_bytes(b"anything at all")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(pictures.DataError, match="it would take running code to read it") as refusal:
            data.load(path)
        assert "allow_pickle" not in str(refusal.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "neither a file nor a folder")


def test_a_link_to_itself(tmp_path):
    (tmp_path / "link.npy").symlink_to(tmp_path / "link.npy")
    refused(tmp_path / "link.npy", "a link that leads nowhere")


def peak_of(function):
    """The most memory that a function holds, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_does_not_belong_into_a_packed_file_is_not_unpacked(tmp_path):
    (tmp_path / "images.gz").write_bytes(gzip.compress(idx(GREY) + bytes(50_000_000)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("images.npy", bytes(50_000_000))
    assert peak_of(lambda: refused(tmp_path / "images.gz", "316 bytes in all, found")) < 5_000_000
    assert peak_of(lambda: refused(tmp_path / "a.npz", "images is no array")) < 5_000_000


@pytest.mark.parametrize("names", [("images", "held_out"), ("x_train", "x_test")])
def test_bits_beside_grey_levels(names, tmp_path):
    for parts in ((GREY, GREY > 300), (GREY > 99, GREY)):
        np.savez(tmp_path / "a.npz", **dict(zip(names, [part.astype(np.uint8) for part in parts], strict=True)))
        with pytest.raises(pictures.DataError, match=r"a\.npz: .*(255.* 1 |1.* 255 )held out|every pixel is below"):
            data.load(tmp_path / "a.npz", binarise="none")
    np.savez(tmp_path / "b.npz", x=GREY, y=LABELS)
    np.testing.assert_array_equal(read(tmp_path / "b.npz").labels, LABELS)


# ------------------------------------------------------------------------------ pictures, and colours

COLOURS = np.random.default_rng(2).integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)


def saved(folder, arrays, suffix="png", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for k, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{k:02}.{suffix}", **options)


def test_a_folder_of_pictures_is_read_in_the_order_of_their_names(tmp_path):
    saved(tmp_path / "grey", GREY)
    (tmp_path / "grey" / "notes.txt").write_text("no picture")
    np.testing.assert_array_equal(read(tmp_path / "grey").pixels, BITS)
    saved(tmp_path / "colours", COLOURS)
    images = data.read(tmp_path / "colours", grey=True)[0]
    assert (images.shape, images.size) == ((5, 4, 3), 60)
    np.testing.assert_array_equal(images.levels, COLOURS)
    saved(tmp_path / "mixed", [*COLOURS[:2], *COLOURS[:2, ..., 0]])
    levels = data.read(tmp_path / "mixed")[0].levels
    np.testing.assert_array_equal(levels[:2], COLOURS[:2])
    np.testing.assert_array_equal(levels[2:], np.repeat(COLOURS[:2, ..., :1], 3, axis=3))


def test_pictures_in_other_formats(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 16).astype(np.uint8), (3, 16, 16))
    saved(tmp_path / "jpeg", smooth, "JPG", quality=95)
    levels = data.read(tmp_path / "jpeg")[0].levels
    np.testing.assert_allclose(levels.astype(int), smooth, atol=5)
    saved(tmp_path / "deep", GREY.astype(np.uint16) << 8)
    np.testing.assert_array_equal(data.read(tmp_path / "deep")[0].levels, GREY)


def test_one_folder_for_each_label(tmp_path):
    saved(tmp_path / "set" / "cats", GREY[:5])
    saved(tmp_path / "set" / "dogs", GREY[5:])
    images = read(tmp_path / "set")
    np.testing.assert_array_equal(images.pixels, BITS)
    np.testing.assert_array_equal(images.labels, [0] * 5 + [1] * 7)


def test_pictures_that_cannot_be_used(tmp_path):
    saved(tmp_path / "sizes", [GREY[0], GREY[1, :4]])
    refused(tmp_path / "sizes", "01.png", "4 x 5 pixels", "00.png has 5 x 5")
    saved(tmp_path / "damaged", GREY)
    damaged = tmp_path / "damaged" / "03.png"
    for content in (b"", b"no picture", damaged.read_bytes()[:40]):
        damaged.write_bytes(content)
        refused(damaged.parent, "03.png: cannot be read as a picture")


def test_colours_in_an_array(tmp_path):
    np.save(tmp_path / "a.npy", COLOURS)
    assert read(tmp_path / "a.npy").shape == (5, 4, 3)
    np.save(tmp_path / "a.npy", GREY[..., None])
    np.testing.assert_array_equal(read(tmp_path / "a.npy").pixels, BITS)
    np.save(tmp_path / "a.npy", COLOURS.transpose(0, 3, 1, 2))
    refused(tmp_path / "a.npy", "found (12, 3, 5, 4)", "numpy.moveaxis(images, 1, -1)")
    np.save(tmp_path / "a.npy", GREY.astype(np.float32))
    refused(tmp_path / "a.npy", "from 0 to 1", "divide floats by 255")
