"""Does one agent for every limit have an edge over a search for each, and one for a front?"""

from collections.abc import Sequence

from agents import DDPGOptions
from experiments.ablations.experiment import Cell, Column, Experiment, Shared
from experiments.ablations.scales import at_scales
from experiments.settings.blocks import LengthBlock
from pfrl.cost.budget import Budget
from pfrl.registry import register

EIGHT = tuple(f"macs={share / 10:g}" for share in range(2, 10))


def cells(settings: Shared) -> Sequence[Cell]:
    """One search for all, with the evaluations of all, and a search for each limit."""
    shares = [Budget.parse(target).value for target in settings.targets]
    every = {"limits": (min(shares), max(shares))}
    return [
        Cell("ddpg for every limit", "ddpg", problem=every),
        Cell("the same without the actor", "ddpg", DDPGOptions(elite=1.0), problem=every),
        *(Cell(f"{agent} for every limit", agent, problem=every) for agent in ("nsga2", "motpe")),
        *(
            Cell(f"{agent} at each limit", agent)
            for agent in ("ddpg", "evolution", "tpe", "solver", "random")
        ),
    ]


register(
    "experiment",
    "limits",
    Experiment(
        title="one agent for every limit against a search for each",
        paper="AMC (arXiv 1802.03494), whose observation holds the budget",
        table="none: AMC trains an agent anew for every limit",
        claim="From the same evaluations in all, one agent whose limit is drawn anew each episode"
        " finds better policies over eight limits than a search at each of them, and than NSGA-II"
        " and multi-objective TPE.",
        scales=at_scales(
            every={"targets": EIGHT},
            smoke={"targets": ("macs=0.15", "macs=0.3"), "length": LengthBlock(episodes=5)},
            small={"length": LengthBlock(episodes=30)},
        ),
        cells=cells,
        columns=(
            Column("quality", "mean quality over the limits"),
            Column("hypervolume", "hypervolume"),
            Column("evaluated", "what was evaluated alone"),
            Column("planned", "plans alone"),
            Column("actor", "the actor alone"),
        ),
        against="ddpg for every limit",
        work="experiments.ablations.every_limit:work",
    ),
)
