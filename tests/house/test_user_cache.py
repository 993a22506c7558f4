"""The user's cache folder: what is in it is found again, and never grows without end."""

import os

import numpy as np

from pfrl import user_cache as cache
from pfrl.user_cache import digest, drop_oldest, kept_arrays, kept_json, user_cache


def test_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    assert user_cache() == tmp_path
    monkeypatch.delenv("PFRL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "pfrl"


def test_what_was_not_read_for_longest_goes_first(tmp_path):
    for age, name in enumerate(("new/a", "old/b", "new/c")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"four")
        os.utime(file, (1000 - age, 0))
    drop_oldest(tmp_path, 9)
    assert {file.name for file in tmp_path.glob("*/*")} == {"a", "b"}


def test_what_was_made_once_is_read_and_what_is_damaged_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path))
    calls = []

    def ask() -> tuple[dict, dict]:
        arrays = kept_arrays("arrays", "k", lambda: calls.append(0) or {"x/y": np.eye(2)})
        return arrays, kept_json("facts", "k", lambda: calls.append(1) or {"a": 0.1})

    first, second = ask(), ask()
    assert calls == [0, 1] and first[1] == second[1] == {"a": 0.1}
    assert second[0]["x/y"].dtype == np.float64 and (second[0]["x/y"] == np.eye(2)).all()
    for path in (tmp_path / "arrays" / "k.npz", tmp_path / "facts" / "k.json"):
        path.write_bytes(path.read_bytes()[:-2])
    ask()
    assert calls == [0, 1, 0, 1]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "file"))
    assert ask()[1] == {"a": 0.1}


def test_a_digest_tells_names_types_shapes_and_values_apart():
    one = np.arange(4, dtype=np.float32)
    asked = [
        ({}, [("x", one)]),
        ({"a": 1}, [("x", one)]),
        ({}, [("y", one)]),
        ({}, [("x", one.reshape(2, 2))]),
        ({}, [("x", one.view(np.int32))]),
        ({}, [("x", one + 1)]),
    ]
    assert len({digest(*each) for each in asked}) == len(asked)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_other_code_is_another_digest(tmp_path):
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.py").write_text("2")
    one, other = (cache.digest_of_code(tmp_path / name) for name in ("a.py", "b.py"))
    assert one != other != cache.digest_of_code()
