"""What is said of the base network before a search: how good it is, and if that is suspicious;
and whether little of it will be left."""

import numpy as np

from envs.decisions import Decisions
from experiments.records.wording import percent
from experiments.watch.progress import stage, tell
from pfrl.cost import CostModel
from pfrl.data import Dataset
from pfrl.evaluation.remembered import FEW, base_quality, scalings
from pfrl.graph import Graph
from pfrl.models.network import is_own

CHANCE = 1.2
"""A network that is at most so many times as good as one constant answer is hardly trained."""
GAIN = 0.1
"""Another scaling of pixels is worth a word if so many more images are right with it."""
LITTLE = 0.15
"""Share of its MACs below which what is left of a network is worth a word: with 9 % of them a
ResNet-56 of integers lost 18 points of accuracy."""


def tell_data(dataset: Dataset, model: str) -> None:
    """Say what the images are; of a network of the user's also how it sees them, which decides
    how good it is and is known to nobody else.

    Args:
      dataset: as the network sees it.
      model: as the settings name it.
    """
    tell(dataset.summary)
    if is_own(model):
        mean, std = (
            " ".join(f"{x:.3g}" for x in numbers) for numbers in (dataset.mean, dataset.std)
        )
        tell(f"the network sees pixels in [0, 1], less {mean}, over {std} (--mean, --std)")


def introduce(dataset: Dataset, graph: Graph, model: str) -> None:
    """Say what a command begins with: the images, and how good the base network is on them.

    Args:
      dataset, graph: of a task's ``network``.
      model: as the settings name it.
    """
    tell_data(dataset, model)
    with stage("judging the base network"):
        quality = base_quality(graph, dataset)
    tell_base(dataset, graph, model, quality)


def tell_base(dataset: Dataset, graph: Graph, model: str, quality: float) -> None:
    """Say how good the base network is, and warn if that is suspicious: no better than chance, or
    far better with another scaling of pixels that nobody has ruled out.

    Args:
      dataset, graph: of a task's ``network``.
      model: as the settings name it.
      quality: the mean one of the search images.
    """
    wording = dataset.task.wording
    shown = percent(wording.value(quality))
    tell(f"the base network: {wording.metric} {shown} on the search images")
    constant = best_constant(dataset)
    if constant is None or (is_own(model) and _scaling_told(dataset, graph, quality)):
        return
    if quality <= CHANCE * constant:
        tell(
            f"warning: one answer for all images is right for {percent(constant)} of them. Is the"
            " network trained, are its classes those of the data in this order, and are pixels"
            " scaled as they were in its training (--mean, --std)?"
        )


def _scaling_told(dataset: Dataset, graph: Graph, quality: float) -> bool:
    """Say which usual scaling of pixels suits the network far better, if one does."""
    if dataset.scaled or quality > 1 - GAIN:
        return False
    own, *usual = scalings(graph, dataset)
    best = max(usual, key=lambda each: each.quality)
    if best.quality < own.quality + GAIN:
        return False
    mean, std = (" ".join(f"{x:.10g}" for x in numbers) for numbers in (best.mean, best.std))
    tell(
        f"warning: of {min(FEW, len(dataset.search))} of them {percent(own.quality)} are right now,"
        f" and {percent(best.quality)} with --mean {mean} --std {std}. If pixels were scaled so in"
        " its training, begin again with that"
    )
    return True


def tell_little_left(decisions: Decisions, costs: CostModel) -> None:
    """Warn if a budget is only met by a network of which hardly anything is left.

    So it is where channels must give what integers, which alone are nearly fast enough, do not.

    Args:
      decisions: of a search, under its budget.
      costs: by which they count.
    """
    if decisions.limit is None:
        return
    left = costs.cost("macs", decisions.uniform(decisions.limit)) / costs.base["macs"]
    if left >= LITTLE:
        return
    metric, base = decisions.metric, decisions.base
    whole, asked = decisions.cost(decisions.uniform(None)) / base, decisions.limit / base
    alone = f"; with all channels it has {percent(whole, 1)} of the base's {metric}"
    tell(
        f"warning: to have {percent(asked, 1)} of the base's {metric}, a network that is cut alike"
        f" everywhere keeps {percent(left, 1)} of its MACs, which often costs much accuracy"
        + (alone if whole < 1 and decisions.knobs == ("keep",) else "")
    )


def best_constant(dataset: Dataset) -> float | None:
    """Share of the search images whose class is the most frequent one; None without classes."""
    labels = np.asarray(dataset.search.labels)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
        return None
    return float(np.bincount(labels).max() / len(labels))
