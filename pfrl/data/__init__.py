"""Data sets behind one door: ``load(name)``."""

from pfrl.data.base import DataError, Dataset, Split, hold_out
from pfrl.data.sources import cifar10, digits, fashion_mnist

NAMED = {"digits": digits, "fashion_mnist": fashion_mnist, "cifar10": cifar10}
FOLDER_PREFIX = "imagefolder:"

__all__ = ["NAMED", "DataError", "Dataset", "Split", "hold_out", "load"]


def load(name: str) -> Dataset:
    """The data set called ``name``: one of ``NAMED``, or ``imagefolder:PATH``.

    Raises:
      DataError: if the name is unknown or the files are missing or damaged.
    """
    if name.startswith(FOLDER_PREFIX):
        from pfrl.data.imagefolder import imagefolder

        return imagefolder(name.removeprefix(FOLDER_PREFIX))
    if name not in NAMED:
        raise DataError(
            f"unknown data set '{name}': expected one of {', '.join(NAMED)} or {FOLDER_PREFIX}PATH"
        )
    return NAMED[name]()
