"""A run directory: its settings, its history line by line, and going on after a kill."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from experiments.records.history import Line
from experiments.records.lines import append_line, mend_lines
from experiments.settings.blocks import SettingsError
from experiments.settings.compression import CompressSettings
from pfrl.files import FileError, write_json

PACKAGES = ("jax", "flax", "optax", "gymnasium", "stable-baselines3", "torch", "onnx",
            "onnxruntime", "numpy")  # fmt: skip


class RunFolder:
    """Opens or creates the directory of a run.

    Args:
      settings: resolved ones.

    Raises:
      SettingsError: if there is a run already and ``resume`` is off, or it has other settings.
      FileError: if the directory cannot be written to.
    """

    def __init__(self, settings: CompressSettings):
        self.path = settings.out
        identity = json.loads(json.dumps(settings.identity()))
        config = self.path / "config.json"
        if config.exists():
            self._check(config, identity, settings.resume)
        else:
            config_now = {"settings": identity, "command": command(), "versions": versions()}
            write_json(config, config_now)
        self.recorded: list[Line] = mend_lines(self._history)

    @property
    def _history(self) -> Path:
        return self.path / "history.jsonl"

    def _check(self, config: Path, identity: dict[str, Any], resume: bool) -> None:
        try:
            before = json.loads(config.read_text())["settings"]
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"{config} is damaged ({error}); choose another --out") from error
        if not resume:
            raise SettingsError(
                f"{self.path} already holds a run; go on with it with --resume, or choose"
                " another --out"
            )
        changed = [name for name in identity if before.get(name) != identity[name]]
        if changed:
            name = changed[0]
            raise SettingsError(
                f"{self.path} holds a run with other settings: {name} was {before.get(name)!r},"
                f" now it is {identity[name]!r}; give the same ones, or choose another --out"
            )

    def append(self, line: Line) -> None:
        """One more episode, on disk when this returns."""
        append_line(self._history, line)

    def read(self, name: str) -> Any:
        """A JSON file of an earlier start, or None if it is not there yet."""
        path = self.path / name
        try:
            return json.loads(path.read_text()) if path.exists() else None
        except ValueError as error:
            raise FileError(f"{path} is damaged ({error}); delete it and resume") from error


def command() -> str:
    """The command line as a user would type it, without ``--resume``."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return " ".join(["pfrl", *words])


def versions() -> dict[str, str]:
    """Versions of what decides about the numbers."""
    return {
        "python": sys.version.split()[0],
        **{package: version(package) for package in PACKAGES},
    }
