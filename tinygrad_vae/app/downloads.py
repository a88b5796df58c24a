"""Well-known sets of images, downloaded once and checked against their SHA-256."""

from __future__ import annotations

import os
from pathlib import Path

from ..optional import require
from .images import DataError

FOLDER_VARIABLE = "TINYGRAD_VAE_DATA"
"""The environment variable that says where downloaded files are kept; by default in the system's cache folder."""

FILES = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]

DATASETS: dict[str, tuple[str, ...]] = {
    "mnist": (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion-mnist": (
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "kmnist": (
        "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
    ),
}
"""The address of the files of each set, and the SHA-256 of each file: MNIST (LeCun, Cortes and Burges 1998),
Fashion-MNIST (Xiao, Rasul and Vollgraf 2017), Kuzushiji-MNIST (Clanuwat et al. 2018), with 60 000 images of 28 x 28
pixels to train on, and 10 000 held out."""


def download(name: str, folder: str | Path | None = None) -> Path:
    """Return the folder that holds the files of a set, after fetching those that are missing or damaged.

    By default they are kept in a folder inside the one that ``FOLDER_VARIABLE`` names.

    Raises:
        DataError: there is no such set, or a file cannot be fetched, or has another checksum.
        MissingExtraError: pooch is not installed.
    """
    if name not in DATASETS:
        raise DataError(f"{name!r}: no set of that name; expected {' or '.join(DATASETS)}")
    pooch, (url, *checksums) = require("pooch"), DATASETS[name]
    pooch.get_logger().setLevel("WARNING")
    folder = Path(folder or Path(os.environ.get(FOLDER_VARIABLE) or pooch.os_cache("tinygrad_vae")) / name)
    registry = {file: f"sha256:{checksum}" for file, checksum in zip(FILES, checksums, strict=True)}
    store = pooch.create(path=folder, base_url=url, registry=registry)
    for file in FILES:
        try:
            store.fetch(file)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{name}: {url}{file} cannot be fetched: {error}. "
                f"Try again, or put the file into {folder} yourself; files that are there already are kept"
            ) from error
    return folder
