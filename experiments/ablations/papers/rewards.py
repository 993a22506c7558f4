"""How a limit is kept, and what is rewarded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from experiments.ablations.experiment import SEARCHED, Cell, Experiment, Shared
from experiments.ablations.scales import HARD, SHARES, at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

if TYPE_CHECKING:
    from envs.rewards import Reference
    from pfrl.evaluation.config import Evaluation

PENALTY = 1.0
"""What is taken from the accuracy for a cost twice the limit."""


def _penalised(share: float, evaluation: Evaluation, base: Reference) -> float:
    """Accuracy, less what the MACs are above the limit as a share of it."""
    over = evaluation.costs["macs"] / (share * base.costs["macs"]) - 1
    return evaluation.accuracy - PENALTY * max(over, 0.0)


for _share in SHARES.values():
    register("reward", f"accuracy-over(macs={_share})", partial(_penalised, _share))


def _limits(settings: Shared) -> list[Cell]:
    reward = f"accuracy-over({settings.targets[0]})"
    return [
        Cell("projection"),
        Cell("penalty", target="none", changes={"reward": reward}),
        Cell("lowering afterwards", problem={"lowered": True}),
    ]


SHARE = Column("share", "MACs", "share", -1)

register(
    "experiment",
    "budgets",
    Experiment(
        title="a limit by projection, by penalty, or by lowering afterwards",
        paper="HAQ (arXiv 1811.08886) and AMC (arXiv 1802.03494)",
        table="AMC's limited action space, HAQ's lowering of bits",
        claim="A budget that holds at every step finds better policies than a penalty in the"
        " reward, or than lowering what is over the limit when all is decided.",
        scales=at_scales(**HARD),
        cells=_limits,
        columns=(*SEARCHED, SHARE),
        against="projection",
    ),
)

register(
    "experiment",
    "rewards",
    Experiment(
        title="what is rewarded",
        paper="AMC (arXiv 1802.03494), HAQ (arXiv 1811.08886), MnasNet (arXiv 1807.11626), Galen"
        " (arXiv 2212.07818)",
        table="their formulas side by side",
        claim="Under a budget the scale of the reward does not matter; without one, the reward"
        " decides how small the network gets.",
        scales=at_scales(smoke=HARD["smoke"]),
        cells=lambda settings: [
            *(
                Cell(f"{name}, under the budget", changes={"reward": name})
                for name in ("-error", "haq")
            ),
            *(
                Cell(f"{name}, no budget", target="none", changes={"reward": name})
                for name in ("-error*log(macs)", "latency", "absolute")
            ),
        ],
        columns=(*SEARCHED, SHARE),
        against="-error, under the budget",
        latency=True,
    ),
)
