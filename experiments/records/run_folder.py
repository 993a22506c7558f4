"""The folder of a run or a study: what made it, what is finished, and going on after a kill."""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.records.commit import commit
from experiments.records.database import DatabaseLines
from experiments.records.history import Line
from experiments.records.lines import FileLines
from experiments.records.machine import machine
from experiments.settings.blocks import SettingsError
from pfrl.data import place_of
from pfrl.files import FileError, locked, write_json, write_text
from pfrl.models.network import is_own, own_file
from pfrl.registry import plugins

PACKAGES = ("jax", "flax", "optax", "gymnasium", "stable-baselines3", "torch", "onnx",
            "onnxruntime", "numpy", "optuna")  # fmt: skip
FORMAT = 1
"""Of the files in a folder that a run or a study which goes on reads; raised when one changes."""
CONFIG = "config.json"
FILES = "files"
"""Among the settings of a folder: the user's files behind the network and the data."""
READ_WHOLE = 2**30
"""Bytes of a file up to which its content tells whether it has changed, and not its size alone."""
AGENT_FILE = "agent.npz"
"""What the agent of a search has become, beside its history."""
BASE = "base.json"
"""Costs and search quality of the base network, which shares of a limit refer to."""
VALIDATION = "validation.json"
"""Which runtime judges: measured when a run or a study begins, and kept for all of it."""


class RunFolder:
    """A folder that goes on with what made it, and refuses everything else.

    Its identity is the command, the settings but those in ``settings.FREE``, the content of the
    weights, of plugins and of other files, the versions of what decides about numbers, and the
    ``FORMAT`` of the files.
    ``config.json`` holds it. Nothing is written before ``begin``.

    Args:
      command: such as 'sweep'.
      settings: a dataclass with the fields ``out``, the folder, and ``weights``; ``FREE`` names
        the fields that may change from one start to the next. One with ``storage``, the URL of a
        database, has there what is finished.
      weights: the file that ``settings.weights`` stands for.
      lines: name of the file of what is finished.

    Raises:
      SettingsError: if the folder holds something with another identity.
      FileError: if its ``config.json`` is damaged or missing, or the weights cannot be read.
    """

    def __init__(
        self, command: str, settings: Any, weights: Path, lines: str = "results.jsonl"
    ) -> None:
        self.path: Path = settings.out
        self.recorded: list[Line] = []
        self._config = self.path / CONFIG
        self._file, storage = self.path / lines, getattr(settings, "storage", None)
        self._lines = (
            FileLines(self._file)
            if storage is None
            else DatabaseLines(storage, str(self.path.resolve()))
        )
        self._identity = {
            "format": FORMAT,
            "command": command,
            "settings": identity(settings, weights),
            "versions": {package: version(package) for package in PACKAGES},
            "plugins": {path.name: _digest(path) for path in plugins()},
        }
        self.begun = self._config.exists()
        if self.begun:
            self._check()
        elif self._lines.read():
            raise FileError(
                f"{self.path} has results but no {CONFIG} that says what made them; choose"
                " another --out"
            )

    def _check(self) -> None:
        before = self.read(CONFIG)
        known = isinstance(before, dict) and before.keys() >= self._identity.keys()
        if not known or before["format"] != FORMAT:
            raise FileError(f"{self._config} is not of this version; choose another --out")
        was, now = (dict(_leaves(each)) for each in (self._only(before), self._identity))
        changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        if changed:
            name = changed[0]
            if name.startswith(f"{FILES}."):
                file = name.removeprefix(f"{FILES}.")
                raise SettingsError(
                    f"{self.path} holds results of other settings: {file} has changed since; choose"
                    " another --out"
                )
            raise SettingsError(
                f"{self.path} holds results of other settings: {name} was {was.get(name)!r}, now"
                f" it is {now.get(name)!r}; give the same ones, or choose another --out"
            )

    def _only(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {name: config[name] for name in self._identity}

    def begin(self) -> None:
        """Write down what makes the folder, or that it is gone on with; read what is finished.

        Raises:
          FileError: if the folder cannot be written to, or what is finished is damaged.
        """
        before = self.read(CONFIG) or {}
        commands = list(dict.fromkeys([*before.get("commands", ()), command()]))
        commits = list(dict.fromkeys([*before.get("commits", ()), commit()]))
        facts = {"machine": machine(), "commands": commands, "commits": commits}
        write_json(self._config, {**self._identity, **facts})
        self.begun = True
        self.recorded = self._lines.mend()

    def look(self) -> None:
        """Read what is finished, and write nothing."""
        self.recorded = self._lines.read()

    def copy_out(self) -> None:
        """Let the file of what is finished hold it too where a database does, for reports."""
        if isinstance(self._lines, DatabaseLines):
            write_text(self._file, "".join(json.dumps(line) + "\n" for line in self.recorded))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, no other process works in this folder.

        Raises:
          SettingsError: if one does already.
        """
        try:
            lock = locked(self.path / ".lock")
        except OSError:
            yield  # a file system without locks; one that cannot be written to is told elsewhere
            return
        if lock is None:
            raise SettingsError(
                f"another process is at work in {self.path}; wait for it, or choose another --out"
            )
        with lock:
            yield

    @property
    def facts(self) -> dict[str, Any]:
        """What ``config.json`` holds: identity, machine, every command that was given, and the
        commits of the code."""
        return self.read(CONFIG)

    def append(self, line: Line) -> None:
        """One more line of what is finished, on disk when this returns."""
        self._lines.append(line)

    def read(self, name: str) -> Any:
        """A JSON file of an earlier start, or None if it is not there yet."""
        path = self.path / name
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except ValueError as error:
            raise FileError(
                f"{path} is damaged ({error}); delete it, or choose another --out"
            ) from error

    def kept(self, name: str, make: Callable[[], Any]) -> Any:
        """A JSON file of an earlier start; if it is not there yet, what ``make`` gives goes in."""
        found = self.read(name)
        if found is None:
            found = make()
            write_json(self.path / name, found)
        return found


def write_base(folder: RunFolder, costs: Mapping[str, float], accuracy: float | None) -> None:
    """Keep what ``BASE`` holds; the accuracy is None where no search judged the base network."""
    folder.kept(BASE, lambda: {"costs": dict(costs), "accuracy": accuracy})


def identity(settings: Any, weights: Path) -> dict[str, Any]:
    """All settings that decide about results, as plain data; files by their content."""
    plain = dataclasses.asdict(settings)
    for block in ("network", "space", "length"):
        plain |= plain.pop(block, {})
    plain |= {"weights": weights}
    kept = {name: value for name, value in plain.items() if name not in settings.FREE}
    files = _files(plain.get("model"), plain.get("data"))
    return json.loads(json.dumps({**kept, FILES: files}, default=_digest))


def _files(model: str | None, data: str | None) -> dict[str, str]:
    """By their names, digests of the user's files that a network and data come from."""
    places = [
        own_file(model) if model and is_own(model) else None,
        place_of(data) if data else None,
    ]
    return {str(path): _glance(path) for path in places if path is not None and path.exists()}


def command() -> str:
    """The command line as a user would type it."""
    return " ".join(["pfrl", *sys.argv[1:]])


def versions() -> dict[str, str]:
    """Versions of what decides about the numbers."""
    return {
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
    }


def _digest(path: Path) -> str:
    """Of a file's content; of a folder's, the names of its files included."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    found = hashlib.sha256()
    try:
        for each in files:
            if each != path:
                found.update(str(each.relative_to(path)).encode())
            found.update(each.read_bytes())
    except OSError as error:
        kind = "an .npz of weights" if path.suffix == ".npz" else "a file"
        raise FileError(f"no file {path} can be read; expected {kind}") from error
    return found.hexdigest()[:16]


def _glance(path: Path) -> str:
    """A digest of a file's content; of a folder's files, and of a very large one, the sizes."""
    if path.is_file() and path.stat().st_size <= READ_WHOLE:
        return _digest(path)
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    sizes = [(str(each.relative_to(path)), each.stat().st_size) for each in files]
    return hashlib.sha256(json.dumps(sizes).encode()).hexdigest()[:16]


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Plain values by the path to them; settings by the names of their options."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}".removeprefix(".").removeprefix("settings."))
    else:
        yield name, value
