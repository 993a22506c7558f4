"""Data sets of files that are found, downloaded, damaged or forged: IDX and CIFAR-10's archive."""

import gzip
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest

from pfrl.data import DataError, load, sources
from pfrl.data.plain_pickle import load_arrays


def idx(array):
    """The bytes of an IDX file of unsigned bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion_folder(tmp_path, monkeypatch):
    """Where Fashion-MNIST is looked for: six blank images with labels, to be damaged."""
    monkeypatch.setattr(sources, "FASHION_FOLDERS", (tmp_path,))
    monkeypatch.setenv("PFRL_DATA", str(tmp_path / "cache"))
    for part in ("train", "t10k"):
        images, labels = np.zeros((6, 28, 28)), np.arange(6)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_idx_files_are_read(fashion_folder):
    split = sources._fashion_split("train")
    assert split.images.shape == (6, 28, 28, 1)
    assert split.labels.tolist() == [0, 1, 2, 3, 4, 5]


WHOLE = gzip.compress(idx(np.arange(6 * 784).reshape(6, 28, 28)))
NOT_WHOLE = "not a whole IDX file"
# Named by hand: the bytes of a .gz hold the time at which it was made, and a test keeps its name.
DAMAGED = {
    "cut": (WHOLE[:-20], "images-idx3-ubyte.gz is damaged .*; delete it and fetch it again"),
    "flipped": (WHOLE[:200] + b"\xff\xff" + WHOLE[202:], "images-idx3-ubyte.gz is damaged"),
    "page": (b"<html>", "images-idx3-ubyte.gz is damaged"),
    "empty": (gzip.compress(b""), NOT_WHOLE),
    "short": (gzip.compress(b"\x00\x00\x08\x03\x00\x00"), NOT_WHOLE),
    "floats": (gzip.compress(b"\x00\x00\x0d\x01\x00\x00\x00\x00"), NOT_WHOLE),
    "one-byte-less": (gzip.compress(idx(np.zeros((6, 28, 28)))[:-1]), NOT_WHOLE),
    "five": (gzip.compress(idx(np.zeros((5, 28, 28)))), r"\[5, 28, 28\] and \[6\], expected"),
    "27-rows": (gzip.compress(idx(np.zeros((6, 27, 28)))), r"\[6, 27, 28\] and \[6\], expected"),
    "labels": (gzip.compress(idx(np.zeros(6))), r"\[6\] and \[6\], expected"),
}


@pytest.mark.parametrize(("content", "sentence"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_images(content, sentence, fashion_folder):
    (fashion_folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        load("fashion_mnist")


def test_labels_that_name_no_class(fashion_folder):
    labels = gzip.compress(idx(np.asarray([0, 1, 2, 3, 4, 10])))
    (fashion_folder / "train-labels-idx1-ubyte.gz").write_bytes(labels)
    with pytest.raises(DataError, match="labels below 10"):
        load("fashion_mnist")


def serve(monkeypatch, content):
    """Let every download yield ``content``, or fail with it."""

    def urlopen(url, timeout):
        if isinstance(content, Exception):
            raise content
        return io.BytesIO(content)

    monkeypatch.setattr(sources.urllib.request, "urlopen", urlopen)


def test_a_missing_file_is_downloaded_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_DATA", str(tmp_path / "cache"))
    # md5 of b"abc", RFC 1321, appendix A.5
    request = ("abc.gz", "900150983cd24fb0d6963f7d28e17f72", "https://host/", (tmp_path / "cache",))
    serve(monkeypatch, b"abc")
    path = sources._find_or_download(*request, "abc")
    assert path.read_bytes() == b"abc"
    serve(monkeypatch, OSError("no network"))
    assert sources._find_or_download(*request, "abc") == path


def test_a_download_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_DATA", str(tmp_path))
    serve(monkeypatch, OSError("no network"))
    with pytest.raises(
        DataError, match=r"no cifar-10-python.tar.gz in .*failed \(no network\); put"
    ):
        load("cifar10")
    serve(monkeypatch, b"half of it")
    with pytest.raises(
        DataError, match=r"damaged: its md5 is \w+, expected c58f30108f718f92721af3"
    ):
        load("cifar10")
    assert list(tmp_path.iterdir()) == []


def cifar_batch(n, first_label):
    """``n`` images of three even planes of brightness 1, 2 and 3."""
    planes = np.repeat(np.asarray([1, 2, 3], np.uint8), 1024)
    labels = [(first_label + i) % 10 for i in range(n)]
    return {"data": np.tile(planes, (n, 1)), "labels": labels}


def write_cifar(folder, batches):
    with tarfile.open(folder / sources.CIFAR_FILE, "w:gz", compresslevel=1) as archive:
        for name, batch in batches.items():
            content = batch if isinstance(batch, bytes) else pickle.dumps(batch, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def cifar_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_DATA", str(tmp_path))
    return tmp_path


def test_cifar_is_read_and_parted(cifar_folder):
    batches = {f"data_batch_{i}": cifar_batch(1_010, i) for i in range(1, 6)}
    write_cifar(cifar_folder, {**batches, "test_batch": cifar_batch(7, 0)})
    cifar = load("cifar10")
    assert (len(cifar.train), len(cifar.search)) == (50, 5_000)
    assert np.array_equal(np.bincount(cifar.search.labels), [500] * 10)
    test = cifar.open_test()
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert test.images.shape == (7, 32, 32, 3)
    assert np.array_equal(test.images[0, 5, 9], [1, 2, 3])


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (b"\x80\x02}q", "no pickle of plain arrays"),
        ([1, 2], "data_batch_1 holds no data and labels"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "data_batch_1 holds no data and labels"),
        ({"data": np.zeros((2, 3071), np.uint8), "labels": [0, 1]}, r"pixels \[2, 3071\]"),
        ({"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]}, "holds float32 pixels"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, "labels 0 to 10, expected"),
    ],
)
def test_a_damaged_cifar_batch(batch, sentence, cifar_folder):
    write_cifar(cifar_folder, {"data_batch_1": batch})
    with pytest.raises(DataError, match=rf"is not the CIFAR-10 python archive.*{sentence}"):
        load("cifar10")


def test_a_damaged_cifar_archive(cifar_folder):
    write_cifar(cifar_folder, {"data_batch_1": cifar_batch(2, 0)})
    with pytest.raises(DataError, match="data_batch_2"):
        load("cifar10")
    path = cifar_folder / sources.CIFAR_FILE
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[:40] + b"\xff\xff" + whole[42:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged \(.*\); delete it and"):
            load("cifar10")


@pytest.mark.parametrize("protocol", [2, 4])
def test_plain_arrays_are_unpickled(protocol):
    value = {"a": np.arange(6, dtype=np.uint8).reshape(2, 3), "b": [1, "x", None], "c": b"\xff\x00"}
    found = load_arrays(io.BytesIO(pickle.dumps(value, protocol=protocol)))
    assert np.array_equal(found.pop("a"), [[0, 1, 2], [3, 4, 5]])
    assert found == {"b": [1, "x", None], "c": b"\xff\x00"}


def test_arrays_of_python_2_are_unpickled():
    """Opcode by opcode what Python 2 wrote of ``{"data": array([200, 7], uint8)}``, protocol 2."""
    constructor = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    minus_one = b"J\xff\xff\xff\xff"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNN" + 2 * minus_one + b"K\x00tb"
    array = constructor + b"(K\x01K\x02\x85" + dtype + b"\x89U\x02\xc8\x07tb"
    found = load_arrays(io.BytesIO(b"\x80\x02}U\x04data" + array + b"s."))
    assert list(found) == ["data"]
    assert found["data"].dtype == np.uint8
    assert found["data"].tolist() == [200, 7]


class Forged:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.mkdir, ("forged",)), "mkdir"),
        ((eval, ("__import__('os').mkdir('forged')",)), "eval"),
        ((np.save, ("forged", 0)), "numpy.save"),
        ((np.array, ([1],)), "array"),
    ],
)
def test_a_forged_pickle_runs_nothing(call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps({"data": Forged(*call)}, protocol=2)
    with pytest.raises(ValueError, match=f"{name}, which is no part of an array"):
        load_arrays(io.BytesIO(content))
    assert list(tmp_path.iterdir()) == []


def test_a_forged_codec_is_refused():
    content = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX\x03\x00\x00\x00hex\x86R."
    with pytest.raises(ValueError, match="encodes text as hex, expected latin1"):
        load_arrays(io.BytesIO(content))
