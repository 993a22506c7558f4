"""How a limit is kept, and what is rewarded."""

from experiments.ablations.experiment import SEARCHED, Cell, Experiment
from experiments.ablations.scales import HARD, at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

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
        cells=lambda settings: [
            Cell("projection"),
            Cell("penalty", problem={"kept_by": "penalty"}),
            Cell("lowering afterwards", problem={"kept_by": "lowering"}),
        ],
        columns=(*SEARCHED, Column("spent", "of the limit", "share", -1)),
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
