"""How much better one network is than others on the same images, with intervals."""

from collections.abc import Mapping

import numpy as np

from experiments.report.intervals import Difference, mean_interval, paired_difference


def paired_differences(
    quality: np.ndarray, others: Mapping[str, np.ndarray], confidence: float = 0.95
) -> tuple[dict[str, Difference], str]:
    """How much better a network is than others on the same images, and whose intervals these are.

    Where every image is right or wrong, see ``paired_difference``; else they are Student's, of
    the mean of the images' differences.

    Args:
      quality: of the network's answers ``[N]``, in [0, 1].
      others: likewise, by name.
      confidence: of the intervals.

    Returns:
      Differences of the mean qualities by name, and the interval's name.
    """
    if all(np.isin(found, (0, 1)).all() for found in (quality, *others.values())):
        found = {
            name: paired_difference(quality, other, confidence) for name, other in others.items()
        }
        return found, "Agresti and Min (2005)"
    found = {name: _mean_difference(quality - other, confidence) for name, other in others.items()}
    return found, "Student's t"


def _mean_difference(differences: np.ndarray, confidence: float) -> Difference:
    """The mean of ``[N]`` in [-1, 1] and its interval; of one image anything is possible."""
    mean, margin = mean_interval(differences.tolist(), confidence)
    if margin is None:
        return Difference(mean, -1.0, 1.0)
    return Difference(mean, max(mean - margin, -1.0), min(mean + margin, 1.0))
