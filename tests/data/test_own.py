"""The user's own data, from a function in a file: held in memory, or asked for one by one."""

import io
import pickle
import subprocess
import sys

import numpy as np
import pytest

from pfrl.data import DataError, load, streams
from pfrl.data.own import Examples
from pfrl.training.identity import named
from pfrl.user_cache import digest

OWN = """
import numpy as np
import pfrl
from pathlib import Path

HERE = Path(__file__).parent
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (30, 4, 5), np.uint8)
labels = np.arange(30) % 3

def pair():
    return images, labels

def named():
    return {"images": images, "targets": labels, "names": np.array(["a", "b", "c"])}

class Source:
    def __len__(self):
        return 30

    def __getitem__(self, index):
        return {"image": images[index], "label": labels[index]}

def source():
    return Source()

def listed():
    return [(image, label) for image, label in zip(images, labels)]

def whole():
    return pfrl.load_data("digits")

def uneven():
    return [(images[0], 0), (images[0, 1:], 1)]

def fails():
    raise KeyError("no such file")

def none():
    return None

class Gone(Source):
    def __getitem__(self, index):
        raise OSError(f"the disk of {index} is gone")

def gone():
    return Gone()

class Odd(Source):
    def __getitem__(self, index):
        return images[index, index // 29:], labels[index]

def odd():
    return Odd()

class OddLater(Odd):
    targets = labels

def odd_later():
    return OddLater()

def mapped():
    return np.load(HERE / "images.npy", mmap_mode="r"), labels
"""


@pytest.mark.parametrize("function", ["pair", "named", "source", "listed"])
def test_a_function_of_the_users_gives_the_data(function, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    dataset = load(f"{tmp_path / 'own.py'}:{function}")
    assert dataset.image_shape == (4, 5, 1) and len(dataset.classes) == 3
    assert (len(dataset.train), len(dataset.search), len(dataset.open_test())) == (24, 3, 3)


def test_a_function_may_give_a_whole_data_set(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    name = f"{tmp_path / 'own.py'}:whole"
    assert load(name).name == name and len(load(name).classes) == 10


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("missing", "has no function 'missing'; it is to return a pfrl.Dataset"),
        ("uneven", r"images of different shapes, \[3, 5\] and \[4, 5\]; resize"),
        ("fails", r"raises KeyError: 'no such file' \(own.py, line"),
        ("none", "returns a NoneType; expected a pfrl.Dataset, a pair"),
    ],
)
def test_a_function_that_gives_something_else_is_one_sentence(function, sentence, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(DataError, match=sentence):
        load(f"{tmp_path / 'own.py'}:{function}")


# What does not fit into memory.


@pytest.fixture
def small_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(streams, "IN_MEMORY", 100)
    (tmp_path / "own.py").write_text(OWN)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "images.npy", rng.integers(0, 256, (30, 4, 5), np.uint8))


@pytest.mark.parametrize("function", ["source", "mapped"])
def test_a_large_source_gives_the_same_without_being_read(function, small_memory, tmp_path):
    large, whole = (load(f"{tmp_path / 'own.py'}:{name}") for name in (function, "pair"))
    for one, other in ((large.train, whole.train), (large.search, whole.search),
                       (large.open_test(), whole.open_test())):  # fmt: skip
        assert isinstance(one.images, Examples) and isinstance(other.images, np.ndarray)
        np.testing.assert_array_equal(np.asarray(one.images), other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert large.image_shape == whole.image_shape == (4, 5, 1)


def test_a_large_source_is_found_again_by_another_process(small_memory, tmp_path):
    images = load(f"{tmp_path / 'own.py'}:source").train.images
    script = (
        "import pickle, sys, numpy as np;"
        "np.save(sys.stdout.buffer, np.asarray(pickle.load(sys.stdin.buffer)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(images), capture_output=True, check=True
    )
    np.testing.assert_array_equal(np.load(io.BytesIO(found.stdout)), np.asarray(images))


def test_a_large_source_that_fails_is_one_sentence(small_memory, tmp_path):
    place = tmp_path / "own.py"
    with pytest.raises(DataError, match=r"images of different shapes, \[4, 5\] and \[3, 5\]"):
        load(f"{place}:odd")
    late = load(f"{place}:odd_later")  # its targets are believed, and its images not looked at
    with pytest.raises(DataError, match=r"different shapes, \[4, 5, 1\] and \[3, 5, 1\]"):
        for part in (late.train, late.search, late.open_test()):
            np.asarray(part.images)
    with pytest.raises(DataError, match=r"raises OSError: the disk of 0 is gone \(own.py, line"):
        load(f"{place}:gone")


def test_what_is_known_of_a_large_source_is_told_by_all_of_its_images(small_memory, tmp_path):
    images = load(f"{tmp_path / 'own.py'}:source").train.images
    twice = images[np.arange(100) % len(images)]
    parts = [part for _, part in named(twice)]
    assert [len(part) for part in parts] == [64, 36]
    np.testing.assert_array_equal(np.concatenate(parts), np.asarray(twice))
    assert digest(0, named(twice)) != digest(0, named(twice[::-1]))
