"""Files are whole or not there, and hold no code."""

import errno
import json
import os

import numpy as np
import pytest

from pfrl.files import FileError, load_arrays, save_arrays, write_json, write_text, write_whole


def fails_after(text, error):
    """A writer that gives up in the middle."""

    def write(stream):
        stream.write(text)
        raise error

    return write


def test_a_file_appears_with_its_content(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    assert write_text(path, "größer\n") == path
    assert path.read_bytes() == "größer\n".encode()
    assert os.stat(path).st_mode & 0o777 == 0o644
    write_json(path, {"keep": [0.5, 1]})
    assert json.loads(path.read_text()) == {"keep": [0.5, 1]}
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_full_disk_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "a.txt"
    if before is not None:
        path.write_text(before)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    message = f"cannot write {path}: No space left on device; free some space or choose another"
    with pytest.raises(FileError, match=message):
        write_whole(path, fails_after(b"half of", full))
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if before is None else ["a.txt"])
    assert before is None or path.read_text() == before


# A disk may only notice at the end, when what was buffered is written.
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_end_is_full(tmp_path, monkeypatch, call):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(FileError, match="No space left on device"):
        write_text(tmp_path / "a.txt", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ZeroDivisionError("in the writer")])
def test_an_interrupted_writer_leaves_nothing(tmp_path, error):
    with pytest.raises(type(error)):
        write_whole(tmp_path / "a.txt", fails_after(b"half of", error))
    assert list(tmp_path.iterdir()) == []


def test_until_it_is_whole_a_file_has_another_name(tmp_path):
    path = tmp_path / "a.txt"

    def write(stream):
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        stream.write(b" and half")

    write_whole(path, write)
    assert path.read_text() == "half and half"


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match=r"cannot write .*; choose another place"):
        write_text(tmp_path / "file" / "a.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileError, match=r"cannot write .*Is a directory"):
        write_text(tmp_path / "folder", "text")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]


def test_arrays_and_meta_come_back(tmp_path):
    arrays = {
        "conv1.kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
        "count": np.asarray(7, np.int32),
        "bits": np.asarray([True, False]),
    }
    meta = {"model": "resnet8", "accuracy": 0.5, "test": None, "shapes": [[2, 3]]}
    found, told = load_arrays(save_arrays(tmp_path / "a.npz", arrays, meta))
    assert told == meta
    assert set(found) == set(arrays)
    for name, value in arrays.items():
        assert found[name].dtype == value.dtype
        assert np.array_equal(found[name], value)


def test_an_npz_of_others_has_no_meta(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    arrays, meta = load_arrays(tmp_path / "a.npz")
    assert np.array_equal(arrays["x"], [1, 1])
    assert meta == {}


class Bomb:
    """What a pickle may hold: a call, made while it is read."""

    exploded = False

    def __reduce__(self):
        return (setattr, (Bomb, "exploded", True))


def test_pickles_are_refused_unread(tmp_path):
    hidden = np.empty(1, object)
    hidden[0] = Bomb()
    np.savez(tmp_path / "a.npz", x=np.ones(2), hidden=hidden)
    np.save(tmp_path / "b.npy", hidden, allow_pickle=True)
    for name in ("a.npz", "b.npy"):
        with pytest.raises(FileError, match=r"no whole .npz file of plain arrays"):
            load_arrays(tmp_path / name)
    assert not Bomb.exploded


def test_damaged_and_missing_files_are_refused(tmp_path):
    whole = save_arrays(tmp_path / "a.npz", {"x": np.arange(5000.0)}, {"a": 1}).read_bytes()
    wrong_meta = tmp_path / "meta.npz"
    np.savez(wrong_meta, __meta__=np.frombuffer(b"{not json", np.uint8))
    cases = {
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
        "empty": b"",
        "text": b"no archive at all",
        "meta": wrong_meta.read_bytes(),
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(FileError, match=rf"{name}.npz is no whole .npz .* fetch or make it"):
            load_arrays(path)
    # An array alone, without an archive around it.
    np.save(tmp_path / "alone.npy", np.ones(3))
    with pytest.raises(FileError, match=r"is no whole .npz file"):
        load_arrays(tmp_path / "alone.npy")
    with pytest.raises(FileError, match=r"no file .*; expected an .npz of weights"):
        load_arrays(tmp_path / "nowhere.npz")
    with pytest.raises(FileError, match="no file"):
        load_arrays(tmp_path)
