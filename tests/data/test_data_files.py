"""Data sets of files that are found, downloaded or damaged: IDX and CIFAR-10's archive."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest

from pfrl.data import DataError, load, sources


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
        DataError, match=r"no cifar-10-binary.tar.gz in .*failed \(no network\); put"
    ):
        load("cifar10")
    serve(monkeypatch, b"half of it")
    with pytest.raises(
        DataError, match=r"damaged: its md5 is \w+, expected c32a1d4ab5d03f1284b678"
    ):
        load("cifar10")
    assert list(tmp_path.iterdir()) == []


def cifar_batch(*labels):
    """Records of images with three even planes of brightness 1, 2 and 3."""
    planes = b"".join(bytes([brightness]) * 1024 for brightness in (1, 2, 3))
    return b"".join(bytes([label]) + planes for label in labels)


def write_cifar(folder, batches):
    with tarfile.open(folder / sources.CIFAR_FILE, "w:gz", compresslevel=1) as archive:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def cifar_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PFRL_DATA", str(tmp_path))
    return tmp_path


def test_cifar_is_read_and_parted(cifar_folder):
    batches = {f"data_batch_{i}": cifar_batch(*range(10)) * 101 for i in range(1, 6)}
    write_cifar(cifar_folder, {**batches, "test_batch": cifar_batch(*range(7))})
    cifar = load("cifar10")
    assert (len(cifar.train), len(cifar.search)) == (50, 5_000)
    assert np.array_equal(np.bincount(cifar.search.labels), [500] * 10)
    assert cifar.summary == "50 training and 5,000 search images, 10 classes"
    test = cifar.open_test()
    assert test.labels.tolist() == [0, 1, 2, 3, 4, 5, 6] and test.labels.dtype == np.int32
    assert test.images.shape == (7, 32, 32, 3)
    assert np.array_equal(test.images[0, 5, 9], [1, 2, 3])


def test_the_planes_of_cifar_are_read_row_by_row(cifar_folder):
    """Byte ``1 + 1024 c + 32 i + j`` of a record is channel c of the pixel in row i, column j."""
    record = bytearray(cifar_batch(3))
    record[1 + 1024 * 2 + 32 * 4 + 7] = 99
    write_cifar(cifar_folder, {"test_batch": bytes(record)})
    split = sources._read_cifar(cifar_folder / sources.CIFAR_FILE, ["test_batch"])
    assert np.argwhere(split.images == 99).tolist() == [[0, 4, 7, 2]]
    assert split.labels.tolist() == [3]


def test_images_are_parted_within_the_memory_of_all():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2500, 2, 2, 3), np.uint8)
    everything = sources.Split(images.copy(), np.arange(2500, dtype=np.int32))
    held = rng.random(2500) < 0.3
    train, search = sources._parted(everything, held)
    for part, chosen in ((train, ~held), (search, held)):
        assert np.array_equal(part.images, images[chosen])
        assert np.array_equal(part.labels, np.flatnonzero(chosen))


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        (b"", "data_batch_1 has 0 bytes, expected a multiple of 3073 above 0"),
        (cifar_batch(0, 1)[:-1], "data_batch_1 has 6145 bytes, expected a multiple of 3073"),
        (cifar_batch(0, 10), "data_batch_1 has a label 10, expected labels 0 to 9"),
    ],
)
def test_a_damaged_cifar_batch(batch, sentence, cifar_folder):
    write_cifar(cifar_folder, {"data_batch_1": batch})
    with pytest.raises(DataError, match=rf"is not the CIFAR-10 binary archive.*{sentence}"):
        load("cifar10")


def test_a_damaged_cifar_archive(cifar_folder):
    write_cifar(cifar_folder, {"data_batch_1": cifar_batch(0, 1)})
    with pytest.raises(DataError, match="data_batch_2"):
        load("cifar10")
    path = cifar_folder / sources.CIFAR_FILE
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[:40] + b"\xff\xff" + whole[42:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged \(.*\); delete it and"):
            load("cifar10")
