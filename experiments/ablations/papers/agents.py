"""Does learning earn its place? Searchers, parts and kinds of agents at equal evaluations."""

from experiments.ablations.experiment import Cell, Column, Experiment
from experiments.ablations.scales import at_scales
from pfrl.registry import register

SEARCHED = (
    Column("search_accuracy", "search accuracy"),
    Column("test_accuracy", "test accuracy, fine-tuned"),
)

register(
    "experiment",
    "searchers",
    Experiment(
        title="learning against search at equal evaluations",
        paper="AMC (arXiv 1802.03494) and SPDY (arXiv 2201.13096)",
        table="AMC's section 4.1 with the opponents that it leaves out",
        claim="At the same number of evaluations DDPG finds better policies than random search,"
        " evolution, TPE, CMA-ES, greedy moves and a solver on measured sensitivities.",
        scales=at_scales(every={"targets": ("macs=0.3",)}, smoke={"targets": ("macs=0.12",)}),
        cells=lambda settings: [
            Cell(name, agent=name)
            for name in ("ddpg", "random", "evolution", "tpe", "cmaes", "greedy", "solver")
        ],
        columns=SEARCHED,
        against="ddpg",
    ),
)
