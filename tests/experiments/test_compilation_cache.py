"""Compiled programs are kept for the next process, whatever happens to the folder."""

import json
import subprocess
import sys

import jax
import pytest

from experiments import cli
from experiments.settings import compilation_cache
from experiments.settings.compilation_cache import CacheError, use_compilation_cache

PROGRAM = """
import json, sys
from pathlib import Path
from experiments.settings.compilation_cache import use_compilation_cache
own = use_compilation_cache(Path(sys.argv[1]))
import jax, jax.numpy as jnp
from pfrl.evaluation.compilations import compilations
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
value = float(jax.jit(lambda x: (jnp.sin(x) @ x.T).sum())(jnp.ones((3, 3))))
hits = events.count("/jax/compilation_cache/cache_hits")
print(json.dumps([value, compilations(), hits, str(own)]))
"""


def started(folder):
    """``[result, compilations, hits in the cache, folder]`` of a new process."""
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_second_process_finds_what_the_first_one_compiled_even_if_an_entry_is_damaged(tmp_path):
    value, compiled, hits, own = started(tmp_path)
    entries = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert (len(entries), hits) == (compiled, 0)
    assert {str(entry.parent) for entry in entries} == {own}
    # What is found counts as compiled: a search must not even look for a program.
    assert started(tmp_path) == [value, compiled, compiled, own]

    longest = max(entries, key=lambda entry: entry.stat().st_size)
    whole = longest.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1])):
        longest.write_bytes(damaged)
        assert started(tmp_path) == [value, compiled, compiled - 1, own]


@pytest.fixture
def untouched(monkeypatch):
    """JAX's settings and the environment are afterwards as they were."""
    names = ("jax_compilation_cache_dir", *compilation_cache._SETTINGS)
    before = {name: getattr(jax.config, name) for name in names}
    for name in names:
        monkeypatch.setenv(name.upper(), "as before")
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_every_set_of_instructions_has_a_folder_of_its_own(tmp_path, monkeypatch, untouched):
    here = use_compilation_cache(tmp_path)
    assert use_compilation_cache(tmp_path) == here
    monkeypatch.setattr(compilation_cache, "instructions", lambda: "another")
    there = use_compilation_cache(tmp_path)
    assert here is not None and there is not None
    assert (here.parent, there.parent) == (tmp_path, tmp_path) and here != there


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, untouched):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"the compilation cache .*file cannot be written"):
        use_compilation_cache(tmp_path / "file")
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "file"))
    assert str(use_compilation_cache()) == "as before"  # what JAX's own variable says
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    assert use_compilation_cache() is None


def test_the_command_line_says_where(tmp_path, monkeypatch, untouched, capsys):
    """A command that ends early, for there is no run to report."""
    command = ["report", str(tmp_path / "no run"), "--compilation-cache"]
    assert cli.main([*command, "none"]) == cli.USER_ERROR
    assert list(tmp_path.iterdir()) == []
    assert cli.main([*command, str(tmp_path / "cache")]) == cli.USER_ERROR
    assert [folder.name for folder in tmp_path.iterdir()] == ["cache"]
    capsys.readouterr()
    (tmp_path / "file").write_text("")
    assert cli.main([*command, str(tmp_path / "file")]) == cli.USER_ERROR
    assert "pfrl: the compilation cache" in capsys.readouterr().err
