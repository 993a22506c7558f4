"""Data sets behind one door: ``load(name)``."""

from pfrl.data.base import DataError, Dataset, Split, hold_out
from pfrl.data.ink import digits_landmarks, digits_pose
from pfrl.data.sources import cifar10, digits, fashion_mnist

NAMED = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "digits_landmarks": digits_landmarks,
    "digits_pose": digits_pose,
}
FOLDER_PREFIX = "imagefolder:"
ARRAYS_PREFIX = "npz:"

__all__ = ["NAMED", "DataError", "Dataset", "Split", "hold_out", "load"]


def load(name: str) -> Dataset:
    """The data set called ``name``: one of ``NAMED``, ``imagefolder:PATH`` or ``npz:PATH``.

    Raises:
      DataError: if the name is unknown or the files are missing or damaged.
    """
    if name.startswith(FOLDER_PREFIX):
        from pfrl.data.imagefolder import imagefolder

        return imagefolder(name.removeprefix(FOLDER_PREFIX))
    if name.startswith(ARRAYS_PREFIX):
        from pfrl.data.arrays import read_arrays

        return read_arrays(name.removeprefix(ARRAYS_PREFIX))
    if name not in NAMED:
        raise DataError(
            f"unknown data set '{name}': expected one of {', '.join(NAMED)},"
            f" {FOLDER_PREFIX}PATH or {ARRAYS_PREFIX}PATH"
        )
    return NAMED[name]()
