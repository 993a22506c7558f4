"""What needs the lines of several jobs: gains over a rule, and ranks."""

from collections.abc import Sequence

import numpy as np

from experiments.ablations.papers.pipelines import LONG
from experiments.records.history import Line
from experiments.studies.proxy.table import kendall, spearman


def gains(lines: Sequence[Line]) -> list[Line]:
    """How much better than the uniform policy at the same limit, under the same seed."""
    rules = {(x["cell"], x["seed"]): x for x in lines}
    found = []
    for line in lines:
        agent, _, limit = line["cell"].partition(" at ")
        rule = rules.get((f"uniform at {limit}", line["seed"]))
        if rule is not None and agent != "uniform":
            own = {
                "gain": line["search_accuracy"] - rule["search_accuracy"],
                "test_gain": line["test_accuracy"] - rule["test_accuracy"],
            }
            line = {**line, **own}
        found.append(line)
    return found


def ranks(lines: Sequence[Line]) -> list[Line]:
    """How the scores of the same policies agree with those after the long fine-tuning."""
    long = {line["seed"]: np.array(line["scores"]) for line in lines if line["cell"] == LONG}
    found = []
    for line in lines:
        truth, own = long.get(line["seed"]), np.array(line["scores"])
        if truth is not None:
            tau, rho = kendall(own, truth), spearman(own, truth)
            # The first of those that are ranked first.
            agreed = {"kendall": float(tau), "spearman": float(rho)}
            line = {**line, **agreed, "chosen": float(truth[np.argmax(own)])}
        found.append(line)
    return found
