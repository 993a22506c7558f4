"""PocketFlow's questions: shares of zeros by rules or by learning, and hand tuning by trials."""

from experiments.ablations.experiment import SEARCHED, Cell, Experiment
from experiments.ablations.scales import HARD, at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

ZEROS = {
    "space.knobs": ("sparsity",),
    "space.sparsity_range": (0.0, 0.95),
    "space.sparsity_step": 0.05,
    "recipe.sparse_repair": True,
}

register(
    "experiment",
    "sparsity-ratios",
    Experiment(
        title="shares of zeros by layer: uniform, by a rule, learned",
        paper="PocketFlow (Wu et al. 2018)",
        table="its three protocols for shares of zeros: uniform, heuristic and optimal",
        claim="Learned shares of zeros are better than the same share everywhere and than"
        " PocketFlow's heuristic.",
        scales=at_scales(every={**ZEROS, "targets": ("packed=0.2",)}),
        cells=lambda settings: [
            Cell("learned (ddpg)"),
            Cell("uniform", agent="uniform"),
            Cell("heuristic", agent="log_params"),
        ],
        columns=(*SEARCHED, Column("share", "bytes", "share", -1)),
        against="learned (ddpg)",
    ),
)

register(
    "experiment",
    "trials",
    Experiment(
        title="automatic against hand tuning, by trial number",
        paper="PocketFlow (Wu et al. 2018)",
        table="the curve of the talk: accuracy of the best trial so far",
        claim="From the same number of trials automatic search gets further than tuning layer by"
        " layer, early and late.",
        scales=at_scales(**HARD),
        cells=lambda settings: [
            Cell("by hand: a layer at a time", agent="greedy"),
            Cell("ddpg"),
            Cell("tpe", agent="tpe"),
        ],
        columns=(
            Column("early_accuracy", "after a quarter of the trials", "share"),
            Column("half_accuracy", "after half", "share"),
            *SEARCHED,
        ),
        against="by hand: a layer at a time",
        lacks="a person: hand tuning is stood for by greedy moves of one layer at a time",
    ),
)
