"""Pictures that do not fit into memory: the same images, in the same order, wherever one starts."""

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pfrl.cpu.workers import cores
from pfrl.data import DataError, load, streams
from pfrl.data.streams import Loading, Pictures, loaded
from tests.support.folders import GREY, draw, fill


@pytest.fixture(params=["folder", "zip"])
def place(request, tmp_path):
    """Forty colour pictures of different sizes, of two classes."""
    rng = np.random.default_rng(0)
    for i in range(40):
        path = tmp_path / "photos" / "train" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        sides = rng.integers(16, 40, 2)
        Image.fromarray(rng.integers(0, 256, (*sides, 3), np.uint8)).save(path)
    if request.param == "folder":
        return tmp_path / "photos"
    return shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "photos")


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(streams, "IN_MEMORY", 1000)


def test_the_same_images_as_in_memory(place, monkeypatch):
    name = f"imagefolder:{place}?size=14"
    whole = load(name)
    monkeypatch.setattr(streams, "IN_MEMORY", 1000)
    stream = load(name)
    assert isinstance(stream.train.images, Pictures) and isinstance(stream.search.images, Pictures)
    assert stream.image_shape == whole.image_shape == (14, 14, 3)
    assert stream.classes == whole.classes and stream.summary == whole.summary
    for part in ("train", "search"):
        one, other = getattr(whole, part), getattr(stream, part)
        np.testing.assert_array_equal(np.asarray(other.images), one.images)
        np.testing.assert_array_equal(other.labels, one.labels)
    np.testing.assert_array_equal(np.asarray(stream.wide), whole.wide)
    for a, b in zip(whole.batches(whole.search, 3), stream.batches(stream.search, 3), strict=True):
        np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(
        np.asarray(stream.open_test().images), np.asarray(whole.open_test().images)
    )


def test_a_test_split_that_is_too_large_is_not_decoded(place, small_memory):
    images = load(f"imagefolder:{place}?size=14").open_test().images
    assert isinstance(images, Pictures) and images.shape == (4, 14, 14, 3)


def test_a_coloured_test_picture_among_grey_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "IN_MEMORY", 100)
    for split, count in (("train", 20), ("val", 4), ("test", 4)):
        fill(tmp_path, split, ("a", "b"), count, GREY)
    draw(tmp_path / "test" / "b" / "000.png", 7)
    test = load(f"imagefolder:{tmp_path}").open_test()
    assert isinstance(test.images, Pictures)
    with pytest.raises(DataError, match=r"000\.png in .* is in colour"):
        np.asarray(test.images)


def batches(dataset, skipped=0, seed=3):
    return list(dataset.training_batches(8, np.random.default_rng(seed), 9, skipped))


def test_the_same_order_for_the_same_seed_from_any_step(place, small_memory):
    stream = load(f"imagefolder:{place}?size=14")
    first = batches(stream)
    assert len(first) == 9 and first[0][0].shape == (8, 14, 14, 3)
    for skipped in (0, 1, 5, 9):
        for (x, y), (again, labels) in zip(first[skipped:], batches(stream, skipped), strict=True):
            np.testing.assert_array_equal(x, again)
            np.testing.assert_array_equal(y, labels)
    assert not np.array_equal(first[0][0], batches(stream, seed=4)[0][0])
    # A pass has every image once at most: 32 are trained on.
    assert len(first) * 8 > len(stream.train) == 32


def test_arrays_go_on_from_any_step_too():
    digits = load("digits")
    every = list(digits.training_batches(16, np.random.default_rng(0), 5))
    rest = list(digits.training_batches(16, np.random.default_rng(0), 5, 3))
    for (x, y), (again, labels) in zip(every[3:], rest, strict=True):
        np.testing.assert_array_equal(x, again)
        np.testing.assert_array_equal(y, labels)


def doubled(index, rng):
    return 2 * index + rng.integers(0, 2)


@pytest.mark.slow
def test_processes_change_nothing():
    loading = Loading(doubled, [np.arange(n, n + 3) for n in range(20)], 7)
    assert pickle.loads(pickle.dumps(loading)).seed == 7
    alone = list(loaded(loading, 0, workers=0))
    for workers, first in ((2, 0), (3, 5)):
        found = list(loaded(loading, first, workers=workers))
        np.testing.assert_array_equal(found, alone[first:])


@pytest.mark.parametrize("place", ["folder"], indirect=True)
def test_broken_pictures(place, small_memory):
    (place / "train" / "a" / "00.png").write_bytes(b"no picture")
    name = f"imagefolder:{place}?size=14"
    with pytest.raises(DataError, match=r"00\.png in .* is no whole PNG.*--skip-broken"):
        load(name)
    good = load(f"{name}&skip_broken=1")
    assert good.summary.endswith("ignored: 1 broken image")
    # One that breaks later is named as well, or black.
    path = place / str(good.train.images.names[0])
    path.write_bytes(path.read_bytes()[:60])
    assert not np.asarray(good.train.images[:1]).any()
    strict = good.train.images.reading._replace(skip_broken=False)
    with pytest.raises(DataError, match=r"whole PNG"):
        np.asarray(replace(good.train.images[:1], reading=strict))


MANY = """
import resource, sys
import numpy as np
from pfrl.data import load
from pfrl.data.streams import Pictures

if __name__ == "__main__":
    dataset = load(sys.argv[1])
    assert isinstance(dataset.train.images, Pictures) and len(dataset.train) == 80_000
    for images, _ in dataset.training_batches(64, np.random.default_rng(0), 70):
        assert images.shape == (64, 224, 224, 3)
    # What getrusage says of a process begins with what started it: a worker full of tests.
    status = open("/proc/self/status").read().split()
    own = int(status[status.index("VmHWM:") + 1])
    each = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(own, each)
"""


@pytest.mark.slow
def test_a_hundred_thousand_pictures_take_little_memory(tmp_path):
    """Of 15 GB of decoded pictures, at most 2 GiB are in the memory of all processes together."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(10):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).resize((300, 256)).save(folder / f"{i:06}.jpg")
    for i in range(10, 100_000):
        os.link(folder / f"{i % 10:06}.jpg", folder / f"{i:06}.jpg")
    script = tmp_path / "many.py"
    script.write_text(MANY)
    command = [sys.executable, str(script), f"images:{folder}?size=224"]
    own, each = map(int, subprocess.check_output(command, text=True).split())
    processes = min(len(cores()), streams.MOST_WORKERS)
    assert own + processes * each <= 2 * 2**20  # KiB
