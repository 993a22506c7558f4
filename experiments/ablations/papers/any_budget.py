"""One agent for every limit, against a search for each."""

from experiments.ablations.experiment import Cell, Experiment
from experiments.ablations.scales import at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

ONE = "one search of "
"""How a cell begins whose search serves all limits; else each limit has a search of its own."""

register(
    "experiment",
    "any-budget",
    Experiment(
        title="one agent for every limit against a search per limit",
        paper="none: what is asked is where learning has a structural edge",
        table="eight limits, the same evaluations in all",
        claim="From the same evaluations in all, one agent that saw every limit is better, on"
        " average over eight limits, than a search per limit and than searches for a front.",
        scales=at_scales(
            every={"space.round_to": 2},
            smoke={"length.episodes": 2},
            small={"length.episodes": 15, "tuning_images": 3_200},
            paper={"length.episodes": 60},
        ),
        cells=lambda settings: [
            *(Cell(f"{ONE}{name}", agent=name) for name in ("ddpg", "nsga2", "motpe")),
            *(
                Cell(f"a search of {name} per limit", agent=name)
                for name in ("ddpg", "evolution", "random")
            ),
        ],
        columns=(
            Column("quality", "held-out accuracy over the limits", "share"),
            Column("hypervolume"),
            Column("actor", "of the actor's own policies", "share"),
            Column("evaluated", "of evaluated policies alone", "share"),
        ),
        against=f"{ONE}ddpg",
        work="experiments.ablations.works.limits:search",
        limits=8,
    ),
)
