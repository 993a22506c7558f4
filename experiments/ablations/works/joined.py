"""What needs the lines of several jobs: ranks."""

from collections.abc import Sequence

import numpy as np

from experiments.ablations.papers.pipelines import LONG
from experiments.records.history import Line
from experiments.studies.proxy.table import kendall, spearman


def ranks(lines: Sequence[Line]) -> list[Line]:
    """How the scores of the same policies agree with those after the long fine-tuning."""
    long = {line["seed"]: np.array(line["scores"]) for line in lines if line["cell"] == LONG}
    found = []
    for line in lines:
        truth, own = long.get(line["seed"]), np.array(line["scores"])
        if truth is not None:
            tau, rho = kendall(own, truth), spearman(own, truth)
            agreed = {"kendall": float(tau), "spearman": float(rho)}
            line = {**line, **agreed, "chosen": float(truth[np.argmax(own)])}
        found.append(line)
    return found
