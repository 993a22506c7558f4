"""One registry for everything that is used by name: methods, metrics, rewards, agents, data sets.

A kind of thing has one ``Registry``, made beside the protocol that its items keep to. Items of
the project are registered by the modules of its *rooms*, which are imported when a name is first
looked for. A user's file registers more of them and is brought in as a plugin::

    @pfrl.register("criterion", "last_channels_go")
    def last_channels_go(graph, variables, evidence): ...
"""

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from pfrl.user_code import run_file

Item = TypeVar("Item")

_items: dict[str, dict[str, Any]] = {}
"""By kind and name, whatever was registered; also of kinds whose registry is not made yet."""
_places: dict[tuple[str, str], str] = {}
"""By kind and name the module that registered it."""
_loaded: list[Path] = []
"""Files of users that were run, in order."""

KINDS = (
    "criterion",
    "repair",
    "sparsifier",
    "weight_quantizer",
    "activation_quantizer",
    "calibration",
    "equalizer",
    "rounding",
    "decomposition",
    "reward",
    "metric",
    "agent",
    "dataset",
    "task",
    "runtime",
    "experiment",
)
"""What can be registered."""
ALIKE = 0.8
"""How alike a name and a known one are (``difflib``) if the latter may be meant."""


class RegistryError(ValueError):
    """A name that is unknown or taken; the message says which ones there are."""


class Registry(Mapping[str, Item], Generic[Item]):
    """Items of one kind by name.

    Args:
      kind: one of ``KINDS``.
      rooms: packages or modules that register the project's own items when they are imported.
      read: makes an item of what was registered, such as of a bare function; None leaves it.
    """

    def __init__(
        self, kind: str, rooms: tuple[str, ...] = (), read: Callable[[Any], Item] | None = None
    ):
        self.kind, self._rooms, self._read, self._open = kind, rooms, read, False

    def __getitem__(self, name: str) -> Item:
        """The item of that name.

        Raises:
          RegistryError: if there is none; the message lists the names that there are.
        """
        items = self._all()
        if name not in items:
            raise RegistryError(unknown(_words(self.kind), name, sorted(items)))
        return items[name] if self._read is None else self._read(items[name])

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


def unknown(kind: str, name: str, known: Sequence[str], *others: str) -> str:
    """What is said of a name that nothing has: which there are, and which one may be meant.

    Args:
      kind: of thing, in words.
      name: as a user gave it.
      known: names that there are.
      others: what could be given in place of a name.
    """
    plain = {_letters(each): each for each in known}
    close = difflib.get_close_matches(_letters(name), plain, 1, ALIKE)
    meant = f" (did you mean {plain[close[0]]}?)" if close else ""
    expected = f"{', '.join(others)} or " if others else ""
    return f"unknown {kind} '{name}'{meant}; expected {expected}one of {', '.join(known)}"


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def register(kind: str, name: str, item: Any = None) -> Any:
    """Add an item of a kind by name, as a call or as a decorator.

    Registering the same name from the same module again replaces the item, so that a file may be
    run twice.

    Args:
      kind: one of ``KINDS``.
      name: what configurations, command lines and tables call it.
      item: what keeps to the protocol of its kind; left out, a decorator is returned.

    Raises:
      RegistryError: if there is no such kind, or the name is taken.
    """
    if kind not in KINDS:
        raise RegistryError(
            f"nothing is registered as '{kind}'; expected one of {', '.join(KINDS)}"
        )
    place = sys._getframe(1).f_globals.get("__name__", "")

    def add(item: Any) -> Any:
        known = _places.setdefault((kind, name), place)
        if known != place:
            raise RegistryError(
                f"{_words(kind)} '{name}' is there already ({known}); choose another name"
            )
        _items.setdefault(kind, {})[name] = item
        return item

    return add if item is None else add(item)


def load_plugin(path: Path) -> None:
    """Run a user's file, which registers what it brings. Worker processes run it again.

    Raises:
      UserCodeError: if there is no such file, or it fails.
    """
    path = path.resolve()
    if path not in _loaded:
        run_file(path)
        _loaded.append(path)


def plugins() -> tuple[Path, ...]:
    """The files that were loaded, for a process that is to know the same names."""
    return tuple(_loaded)


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
