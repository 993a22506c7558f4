"""The data sets that have a name: digits, Fashion-MNIST and CIFAR-10, and where their files are."""

import gzip
import hashlib
import http.client
import math
import os
import tarfile
import urllib.request
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from pfrl.data.base import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, Split, hold_out
from pfrl.files import write_whole
from pfrl.registry import register

# Splits that are cut from a training set are cut by this seed, whatever the run's seed is: a
# network that was trained on the training split must never meet its images in a search split.
SPLIT_SEED = 20181130

FASHION_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"),)
FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
FASHION_MD5 = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
FASHION_CLASSES = tuple(
    "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot".split(",")
)
CIFAR_FILE = "cifar-10-binary.tar.gz"
CIFAR_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
CIFAR_RECORD = 1 + 3 * 32 * 32
"""Bytes of an image: its label, then its red, green and blue plane, each row by row."""


def cache_folder() -> Path:
    """Where downloads are kept: ``$PFRL_DATA``, or ``~/.cache/pfrl``."""
    return Path(os.environ.get("PFRL_DATA", Path.home() / ".cache" / "pfrl"))


@register("dataset", "digits")
def digits() -> Dataset:
    """The 1,797 digits of 8×8 pixels that scikit-learn carries: 1,077 / 360 / 360 images."""
    from sklearn.datasets import load_digits

    pixels, target = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = target.astype(np.int32)
    rng = np.random.default_rng(SPLIT_SEED)
    rest, test = hold_out(labels, 360, rng)
    train, search = hold_out(labels[rest], 360, rng)
    everything = Split(images, labels)
    return Dataset(
        "digits",
        everything.take(rest[train]),
        everything.take(rest[search]),
        partial(everything.take, test),
        tuple("0123456789"),
        (0.3,),
        (0.35,),
        crop=1,
        flip=False,
    )


@register("dataset", "fashion_mnist")
def fashion_mnist() -> Dataset:
    """Fashion-MNIST, 28×28 grey: 55,000 / 5,000 / 10,000 images (arXiv 1708.07747).

    The IDX files are those of the Debian package ``dataset-fashion-mnist``, of
    the cache folder, or downloaded into it.
    """
    everything = _fashion_split("train")
    train, search = hold_out(everything.labels, 5_000, np.random.default_rng(SPLIT_SEED))
    return Dataset(
        "fashion_mnist",
        everything.take(train),
        everything.take(search),
        partial(_fashion_split, "t10k"),
        FASHION_CLASSES,
        (0.286,),
        (0.353,),
        crop=2,
    )


@register("dataset", "cifar10")
def cifar10() -> Dataset:
    """CIFAR-10, 32×32 in colour: 45,000 / 5,000 / 10,000 images, from its binary archive."""
    path = _find_or_download(
        CIFAR_FILE, CIFAR_MD5, CIFAR_URL, (cache_folder(),), "the CIFAR-10 binary archive"
    )
    everything = _read_cifar(path, [f"data_batch_{i}" for i in range(1, 6)])
    train, search = _parted(everything, _cifar_search(everything.labels))
    return Dataset(
        "cifar10",
        train,
        search,
        partial(_read_cifar, path, ["test_batch"]),
        CIFAR_CLASSES,
        IMAGENET_MEAN,
        IMAGENET_STD,
    )


def _cifar_search(labels: np.ndarray) -> np.ndarray:
    """Which images are searched on, 500 a class: the weights that come with the package have not
    seen them."""
    rng, search = np.random.default_rng(0), np.zeros(len(labels), bool)
    for label in range(len(CIFAR_CLASSES)):
        search[rng.choice(np.flatnonzero(labels == label), 500, replace=False)] = True
    return search


def _fashion_split(part: str) -> Split:
    images_file = _fashion_file(f"{part}-images-idx3-ubyte.gz")
    labels_file = _fashion_file(f"{part}-labels-idx1-ubyte.gz")
    images, labels = _read_idx(images_file), _read_idx(labels_file)
    if images.shape != (*labels.shape, 28, 28) or labels.max(initial=0) >= len(FASHION_CLASSES):
        raise DataError(
            f"{images_file} and {labels_file} hold arrays {list(images.shape)} and"
            f" {list(labels.shape)}, expected as many 28x28 images as labels below"
            f" {len(FASHION_CLASSES)}; delete both and fetch them again"
        )
    return Split(images[..., None], labels.astype(np.int32))


def _fashion_file(name: str) -> Path:
    folders = (*FASHION_FOLDERS, cache_folder() / "fashion-mnist")
    return _find_or_download(
        name,
        FASHION_MD5[name],
        FASHION_URL,
        folders,
        "Fashion-MNIST (on Debian: apt-get install dataset-fashion-mnist)",
    )


def _find_or_download(name: str, md5: str, url: str, folders: tuple[Path, ...], what: str) -> Path:
    """The first folder's file, else a download into the last folder, checked before it is kept."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    target = folders[-1] / name
    try:
        with urllib.request.urlopen(url + name, timeout=30) as response:
            content = response.read()
    except (OSError, http.client.HTTPException) as error:
        places = " or ".join(str(folder) for folder in folders)
        raise DataError(
            f"{what} is not there: no {name} in {places}, and the download failed ({error});"
            f" put the file into {folders[-1]}"
        ) from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"the download of {name} is damaged: its md5 is {found}, expected {md5}; try again"
        )
    return write_whole(target, lambda stream: stream.write(content))


def _read_idx(path: Path) -> np.ndarray:
    """An IDX file of unsigned bytes (magic 0x0000 08 <dims>, big-endian sizes, data)."""
    try:
        with gzip.open(path) as stream:
            content = stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); delete it and fetch it again") from error
    dims = content[3] if len(content) >= 4 else 0
    header = 4 + 4 * dims
    whole = content[:3] == b"\x00\x00\x08" and len(content) >= header
    shape = np.frombuffer(content, ">u4", dims, offset=4).tolist() if whole else []
    if not whole or len(content) != header + math.prod(shape):
        raise DataError(f"{path} is not a whole IDX file of bytes; delete it and fetch it again")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _parted(split: Split, held: np.ndarray) -> tuple[Split, Split]:
    """The images that are not held and those that are; the former stay in the memory of all."""
    search, rest, at_once = split.take(held), np.flatnonzero(~held), 1000
    for start in range(0, len(rest), at_once):
        moved = rest[start : start + at_once]
        split.images[start : start + len(moved)] = split.images[moved]
    return Split(split.images[: len(rest)], split.labels[rest]), search


def _read_cifar(path: Path, names: list[str]) -> Split:
    """The images of batches of equal size, in order."""
    images, labels = np.empty((0, 32, 32, 3), np.uint8), []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for place, name in enumerate(names):
                records = _read_cifar_batch(archive, name)
                if not place:
                    images = np.empty((len(names), len(records), *images.shape[1:]), np.uint8)
                images[place] = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                labels.append(records[:, 0].astype(np.int32))
    except (OSError, EOFError, KeyError, ValueError, zlib.error, tarfile.TarError) as error:
        raise DataError(
            f"{path} is not the CIFAR-10 binary archive, or is damaged ({error});"
            " delete it and fetch it again"
        ) from error
    return Split(images.reshape(-1, *images.shape[2:]), np.concatenate(labels))


def _read_cifar_batch(archive: tarfile.TarFile, name: str) -> np.ndarray:
    """The records of one batch: uint8 ``[N, 3073]``."""
    member = archive.extractfile(f"cifar-10-batches-bin/{name}.bin")
    content = member.read() if member else b""
    if not content or len(content) % CIFAR_RECORD:
        raise ValueError(
            f"{name} has {len(content)} bytes, expected a multiple of {CIFAR_RECORD} above 0"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    if (largest := records[:, 0].max()) >= len(CIFAR_CLASSES):
        raise ValueError(f"{name} has a label {largest}, expected labels 0 to 9")
    return records
