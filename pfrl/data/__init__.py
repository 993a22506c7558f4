"""Data sets behind one door: ``load(name)``."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pfrl.data.base import DATASETS, Batches, DataError, Dataset, Split, hold_out
from pfrl.data.own import file_of, read_function
from pfrl.data.pictures import Reading
from pfrl.data.seen import scaled, scaling

__all__ = [
    "DATASETS",
    "Batches",
    "DataError",
    "Dataset",
    "Split",
    "check_there",
    "hold_out",
    "load",
    "place_of",
    "reader",
]

PICTURES = frozenset({"imagefolder", "images"})
"""Data sets that are folders of pictures, and take what is written behind a question mark."""
UNLABELLED = "images:"
"""How the name of a data set begins that needs a network of the user's to answer for it."""


def load(name: str) -> Dataset:
    """The data set called ``name``: as registered, such as ``digits`` or ``imagefolder:PATH``.

    Raises:
      RegistryError: if the name is unknown; the message lists the names that there are.
      DataError: if the files are missing or damaged.
    """
    dataset = reader(name)()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"the data set '{name}' is a {type(dataset).__name__}; expected its registered function"
            " to return a pfrl.Dataset"
        )
    _, mean, std = scaling(name)
    return dataset if mean is None else scaled(dataset, mean, std)


def reader(name: str) -> Callable[[], Dataset]:
    """What loads the data set called ``name``; raises ``RegistryError`` for an unknown name."""
    name = scaling(name)[0]
    if ".py:" in name:
        return partial(read_function, name)
    kind, colon, place = name.partition(":")
    there = name.partition("?")[0]
    if not colon and there not in DATASETS and Path(there).expanduser().exists():
        raise DataError(
            f"{there} is a folder or file, and its kind is missing: give imagefolder:{there} for"
            f" pictures in folders of their classes, images:{there} for pictures without labels,"
            f" npz:{there} for arrays"
        )
    if ("?" in place and kind not in PICTURES) or "?" in kind:
        raise DataError(
            f"--image-size and --skip-broken are for folders of pictures, such as"
            f" imagefolder:PATH, not for '{name.partition('?')[0]}'"
        )
    return partial(DATASETS[kind + colon], place) if colon else DATASETS[kind]


def place_of(name: str) -> Path | None:
    """The folder or file that the name of a data set stands for; None if it has none of its own."""
    name = scaling(name)[0]
    if ".py:" in name:
        return file_of(name)[0]
    kind, _, place = name.partition(":")
    if kind in PICTURES:
        return Path(Reading.parse(place)[0]).expanduser()
    return Path(place).expanduser() if kind == "npz" else None


def check_there(name: str) -> None:
    """See to it that there is a data set of this name, and its folder or file; nothing is read.

    Raises:
      RegistryError: if the name is unknown.
      DataError: if there is nothing at its place.
    """
    reader(name)
    place = place_of(name)
    if place is None or place.exists() or ".py:" in name:
        return
    if name.startswith("npz:"):
        raise DataError(f"no file {place}; expected an .npz with images and targets")
    raise DataError(f"no folder or .zip file at {place}; expected one with pictures")
