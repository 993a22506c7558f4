"""How policies are judged before they are trained, and in which order methods are combined."""

from experiments.ablations.experiment import SEARCHED, Cell, Experiment
from experiments.ablations.scales import at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

LONG = "long fine-tuning"
NONE = {"episode.fidelity": "finetune", "episode.steps": 0, "recipe.repair": "none"}

register(
    "experiment",
    "proxies",
    Experiment(
        title="short evaluations against long fine-tuning",
        paper="AMC (arXiv 1802.03494) and EagleEye (arXiv 2007.02491)",
        table="EagleEye's correlation of accuracies before and after fine-tuning",
        claim="Reconstruction ranks policies of equal cost as long fine-tuning does, better than"
        " pruning alone.",
        scales=at_scales(
            every={"targets": ("macs=0.3",), "space.round_to": 2},
            smoke={"length.episodes": 6, "episode.supernet_steps": 20, "episode.steps": 4},
            small={"length.episodes": 12},
        ),
        cells=lambda settings: [
            Cell("reconstruct"),
            Cell("none", changes=NONE),
            Cell("finetune", changes={"episode.fidelity": "finetune", "episode.steps": 16}),
            Cell("supernet", changes={"episode.fidelity": "supernet"}),
            Cell(LONG, changes=NONE),
        ],
        columns=(
            Column("kendall", "Kendall's τ"),
            Column("spearman", "Spearman's ρ"),
            Column("chosen", "of the policy ranked first, after long fine-tuning", "share"),
            Column("seconds", "seconds a policy", "seconds", -1),
        ),
        against="reconstruct",
        work="experiments.ablations.works.ranking:score",
        derive="experiments.ablations.works.joined:ranks",
    ),
)

BYTES = "packed=0.1"

register(
    "experiment",
    "joint",
    Experiment(
        title="pruning and quantization together, one after the other, or one alone",
        paper="Galen (arXiv 2212.07818)",
        table="joint and sequential agents",
        claim="At a tenth of the bytes, channels and bits that are decided together are better"
        " than one after the other, and than either alone.",
        scales=at_scales(
            every={"episode.fidelity": "finetune", "targets": (BYTES,)},
            smoke={"episode.steps": 4},
        ),
        cells=lambda settings: [
            Cell("together", changes={"space.knobs": ("keep", "weight_bits")}),
            Cell("channels, then bits"),
            Cell("channels alone"),
            Cell("bits alone", changes={"space.knobs": ("weight_bits",)}),
        ],
        columns=(*SEARCHED, Column("share", "bytes", "share", -1)),
        against="together",
        work="experiments.ablations.works.stages:search",
    ),
)
