"""Data sets behind one door: ``load(name)``."""

from collections.abc import Callable
from functools import partial

from pfrl.data.base import DATASETS, DataError, Dataset, Split, hold_out
from pfrl.data.own import read_function
from pfrl.data.seen import seen

__all__ = ["DATASETS", "DataError", "Dataset", "Split", "hold_out", "load", "reader"]

PICTURES = frozenset({"imagefolder", "images"})
"""Data sets that are folders of pictures, and take what is written behind a question mark."""


def load(name: str) -> Dataset:
    """The data set called ``name``: as registered, such as ``digits`` or ``imagefolder:PATH``.

    Raises:
      RegistryError: if the name is unknown; the message lists the names that there are.
      DataError: if the files are missing or damaged.
    """
    name, scaling = _scaling(name)
    dataset = reader(name)()
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"the data set '{name}' is a {type(dataset).__name__}; expected its registered function"
            " to return a pfrl.Dataset"
        )
    channels = dataset.image_shape[-1]
    wrong = [each for each, numbers in scaling.items() if len(numbers) != channels]
    if wrong:
        raise DataError(
            f"--{wrong[0]} has {len(scaling[wrong[0]])} numbers, and the images of"
            f" '{dataset.name}' have {channels} channels; give one number a channel"
        )
    return seen(dataset, scaling.get("mean"), scaling.get("std"))


def _scaling(name: str) -> tuple[str, dict[str, tuple[float, ...]]]:
    """A name without the scaling that is written behind it, ``?mean=0.5&std=0.25``, and this.

    Raises:
      DataError: if it is no such thing.
    """
    place, mark, text = name.rpartition("?")
    found: dict[str, tuple[float, ...]] = {}
    if not mark:
        return name, found
    rest = []
    for option in text.split("&"):
        key, _, numbers = option.partition("=")
        if key not in ("mean", "std"):
            rest.append(option)
            continue
        try:
            found[key] = tuple(map(float, numbers.split(",")))
        except ValueError:
            found[key] = ()
    if ("mean" in found) != ("std" in found) or min(found.get("std", (1.0,)), default=0) <= 0:
        raise DataError(
            "--mean and --std are numbers of every channel for pixels from 0 to 1, the latter above"
            " 0; give both of them, or neither"
        )
    return place + (mark + "&".join(rest) if rest else ""), found


def reader(name: str) -> Callable[[], Dataset]:
    """What loads the data set called ``name``; raises ``RegistryError`` for an unknown name."""
    name, _ = _scaling(name)
    if ".py:" in name:
        return partial(read_function, name)
    kind, colon, place = name.partition(":")
    if ("?" in place and kind not in PICTURES) or "?" in kind:
        raise DataError(
            f"--image-size and --skip-broken are for folders of pictures, such as"
            f" imagefolder:PATH, not for '{name.partition('?')[0]}'"
        )
    return partial(DATASETS[kind + colon], place) if colon else DATASETS[kind]
