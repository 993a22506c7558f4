"""One registry for everything that is used by name: methods, metrics, rewards, agents, data sets.

A kind of thing has one ``Registry``, made beside the protocol that its items keep to. Items of
the project are registered by the modules of its *rooms*, which are imported when a name is first
looked for. A user's file registers more of them and is brought in as a plugin::

    pfrl.register("criterion", "last_channels_go", scoring(last_channels_go))
"""

import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pfrl.user_code import run_file

Item = TypeVar("Item")

_items: dict[str, dict[str, Any]] = {}
"""By kind and name, whatever was registered; also of kinds whose registry is not made yet."""
_makers: dict[tuple[str, str], str] = {}
"""By kind and name, the module that registered it."""
_plugins: list[Path] = []
"""Files of users that were run, in order."""

KINDS = (
    "criterion",
    "repair",
    "sparsifier",
    "weight_quantizer",
    "activation_quantizer",
    "calibration",
    "decomposition",
    "reward",
    "metric",
    "agent",
    "dataset",
    "task",
    "runtime",
    "model",
)
"""What can be registered."""


class RegistryError(ValueError):
    """A name that is unknown or taken; the message says which ones there are."""


class Registry(Mapping[str, Item], Generic[Item]):
    """Items of one kind by name.

    Args:
      kind: one of ``KINDS``.
      rooms: packages or modules that register the project's own items when they are imported.
    """

    def __init__(self, kind: str, rooms: tuple[str, ...] = ()):
        self.kind, self._rooms, self._open = kind, rooms, False

    def __getitem__(self, name: str) -> Item:
        """The item of that name.

        Raises:
          RegistryError: if there is none; the message lists the names that there are.
        """
        items = self._all()
        if name not in items:
            known = ", ".join(sorted(items))
            raise RegistryError(f"unknown {_words(self.kind)} '{name}'; expected one of {known}")
        return items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Item]:
        if not self._open:
            for room in self._rooms:
                _import_all(room)
            self._open = True  # last, as another thread must not see half of them
        return _items.setdefault(self.kind, {})


def register(kind: str, name: str, item: Any = None) -> Any:
    """Add an item of a kind by name, as a call or as a decorator.

    A module may register a name again, which replaces the item: so a file may be run twice.

    Args:
      kind: one of ``KINDS``.
      name: what configurations, command lines and tables call it.
      item: what keeps to the protocol of its kind; left out, a decorator is returned.

    Raises:
      RegistryError: if there is no such kind, or another module has the name.
    """
    return _register(kind, name, item, sys._getframe(1).f_globals.get("__name__", "?"))


def _register(kind: str, name: str, item: Any, maker: str) -> Any:
    if kind not in KINDS:
        raise RegistryError(
            f"nothing is registered as '{kind}'; expected one of {', '.join(KINDS)}"
        )
    if item is None:
        return lambda decorated: _register(kind, name, decorated, maker)
    other = _makers.setdefault((kind, name), maker)
    if other != maker:
        raise RegistryError(
            f"both {other} and {maker} register a {_words(kind)} '{name}';"
            " choose another name for yours"
        )
    _items.setdefault(kind, {})[name] = item
    return item


def load_plugin(path: Path) -> None:
    """Run a user's file, which registers what it brings. Worker processes run it again.

    Raises:
      UserCodeError: if there is no such file, or it fails.
    """
    path = path.resolve()
    if path not in _plugins:
        run_file(path)
        _plugins.append(path)


def plugins() -> tuple[Path, ...]:
    """The files that were loaded, for a process that is to know the same names."""
    return tuple(_plugins)


def load_plugins(paths: tuple[Path, ...]) -> None:
    """``load_plugin`` for each."""
    for path in paths:
        load_plugin(path)


def _import_all(room: str) -> None:
    module: ModuleType = importlib.import_module(room)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ())):
        importlib.import_module(f"{room}.{found.name}")


def _words(kind: str) -> str:
    return kind.replace("_", " ")
