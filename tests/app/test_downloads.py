"""Sets from the net, fetched from a server in this process: checked, kept, and refused with one message."""

import gzip
import hashlib
import http.server
import threading

import numpy as np
import pytest
from app_runs import idx

from tinygrad_vae.app import cli, data, downloads

pytest.importorskip("pooch")

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 4), dtype=np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 10


def packed(array):
    return gzip.compress(idx(array), mtime=0)


@pytest.fixture
def files():
    return {
        "train-images-idx3-ubyte.gz": packed(IMAGES),
        "train-labels-idx1-ubyte.gz": packed(LABELS),
        "t10k-images-idx3-ubyte.gz": packed(IMAGES[:5]),
        "t10k-labels-idx1-ubyte.gz": packed(LABELS[:5]),
    }


@pytest.fixture
def server(files):
    """A server of the files, which keeps the list of what was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            asked.append(name)
            self.send_response(200 if name in files else 404)
            self.end_headers()
            self.wfile.write(files.get(name, b""))

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    running.asked, running.url = asked, f"http://127.0.0.1:{running.server_port}/"
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def shapes(server, files, tmp_path, monkeypatch):
    """The server's files, known under the name of a set."""
    checksums = tuple(hashlib.sha256(files[name]).hexdigest() for name in downloads.FILES)
    monkeypatch.setitem(downloads.DATASETS, "shapes", (server.url, *checksums))
    monkeypatch.setenv(downloads.FOLDER_VARIABLE, str(tmp_path / "kept"))
    return "shapes"


def test_a_set_is_fetched_once_and_then_kept(shapes, server, files, tmp_path):
    train, held_out = data.load(shapes)
    assert sorted(server.asked) == sorted(files)
    assert {path.name for path in (tmp_path / "kept" / shapes).iterdir()} == set(files)
    np.testing.assert_array_equal(train.labels, LABELS)
    np.testing.assert_array_equal(held_out.pixels, (IMAGES[:5] >= 128).reshape(5, 16))
    data.load(shapes)
    assert len(server.asked) == len(files)


def test_a_damaged_file_is_fetched_again(shapes, server, tmp_path):
    folder = downloads.download(shapes, tmp_path / "here")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"damaged")
    assert downloads.download(shapes, tmp_path / "here") == tmp_path / "here"
    assert server.asked[4:] == ["train-labels-idx1-ubyte.gz"]
    assert len(data.load(folder)[0]) == 30


@pytest.mark.parametrize("served", [b"something else", None], ids=["wrong", "missing"])
def test_what_is_not_the_right_file_is_refused_and_not_kept(served, shapes, files, tmp_path):
    if served is None:
        del files["t10k-images-idx3-ubyte.gz"]
    else:
        files["t10k-images-idx3-ubyte.gz"] = served
    with pytest.raises(
        data.DataError, match=r"shapes: http.*t10k-images-idx3-ubyte.gz cannot be fetched: .*into .*kept"
    ):
        data.load(shapes)
    kept = {path.name for path in (tmp_path / "kept" / shapes).iterdir()}
    assert kept == {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"}


def test_no_server_is_one_line_of_the_command(shapes, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(downloads.DATASETS, shapes, ("http://127.0.0.1:9/", *downloads.DATASETS[shapes][1:]))
    assert cli.main(["train", "--data", shapes, "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert "shapes: http://127.0.0.1:9/train-images-idx3-ubyte.gz cannot be fetched" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_unknown_set():
    with pytest.raises(data.DataError, match="'cifar': no set of that name; expected mnist or fashion-mnist or kmnist"):
        downloads.download("cifar")


def test_every_known_set_has_four_files_with_checksums_of_their_own():
    checksums = [value for _, *values in downloads.DATASETS.values() for value in values]
    assert len(set(checksums)) == 4 * len(downloads.DATASETS)
    assert all(len(bytes.fromhex(value)) == 32 for value in checksums)
    assert all(url.startswith("https://") and url.endswith("/") for url, *_ in downloads.DATASETS.values())
