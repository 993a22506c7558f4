"""HAQ's questions: what hardware a policy is for, and bits that differ from layer to layer."""

from experiments.ablations.experiment import SEARCHED, Cell, Experiment, Shared
from experiments.ablations.scales import at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

ANY_TIME = "latency=1000ms"
"""For a network so small that its channels decide nothing about its latency."""

register(
    "experiment",
    "macs-or-latency",
    Experiment(
        title="a limit on MACs or on latency",
        paper="AMC (arXiv 1802.03494)",
        table="MobileNet at half the MACs and at half the time",
        claim="At the same share a network that was searched under a limit on latency is faster,"
        " when it is measured, than one under a limit on MACs.",
        scales=at_scales(
            every={"space.round_to": 4, "targets": ("latency=0.5", "macs=0.5")},
            smoke={"targets": (ANY_TIME, "macs=0.5")},
        ),
        cells=lambda settings: [
            Cell(f"{agent}, {target.partition('=')[0]}", agent=agent, target=target)
            for target in settings.targets
            for agent in ("ddpg", "uniform")
        ],
        columns=(
            Column("measured", "latency measured in ONNX Runtime", "share", -1),
            Column("litert", "latency measured in LiteRT", "share", -1),
            *SEARCHED,
        ),
        against="ddpg, macs",
        work="experiments.ablations.works.devices:search",
        latency=True,
        alone=True,
    ),
)

register(
    "experiment",
    "devices",
    Experiment(
        title="a policy for one device, judged on another",
        paper="HAQ (arXiv 1811.08886)",
        table="the table of specialisation: the policy of one device run on another",
        claim="At the same share of its cost, a policy is cheapest on the device that it was"
        " searched for.",
        scales=at_scales(
            every={"space.round_to": 4, "targets": ("latency=0.5", "array=0.5", "bytes=0.5")},
            smoke={"targets": (ANY_TIME, "array=0.5", "bytes=0.5")},
        ),
        cells=lambda settings: [
            Cell(f"for {device}", target=target)
            for device, target in zip(
                ("this processor", "a 16 x 16 array", "memory"), settings.targets, strict=True
            )
        ],
        columns=(
            Column("measured", "latency measured in ONNX Runtime", "share", -1),
            Column("litert", "latency measured in LiteRT", "share", -1),
            Column("array", "computed cycles of the array", "share", -1),
            Column("bytes", "bytes", "share", -1),
            *SEARCHED,
        ),
        against="for this processor",
        work="experiments.ablations.works.devices:search",
        latency=True,
        alone=True,
        lacks="a study has one model of latency, so nothing is searched for LiteRT beside it, nor"
        " for OpenVINO; HAQ's accelerators are stood for by a formula, their table of latencies is"
        " not included",
    ),
)

FIXED = 4
"""Bits of every layer but the first and the last, in the policy whose cost the others may have."""
KNOBS = {"packed": ("weight_bits",), "bops": ("weight_bits", "act_bits")}
"""What is decided under a limit on each metric: packed bytes say nothing of activations."""
RATES = (0.3, 3.0)
"""By which the learning rate of both is multiplied too."""


def _bits(settings: Shared) -> list[Cell]:
    cells = []
    for metric, knobs in KNOBS.items():
        own = {"space.knobs": knobs}
        cells += [
            Cell(f"mixed, equal {metric}", target=metric, changes=own),
            Cell(f"fixed, equal {metric}", "uniform", target=metric, changes=own),
        ]
        for factor in RATES:
            name = f"equal {metric}, learning rate x {factor:g}"
            changes = {**own, "learning_rate": settings.learning_rate * factor}
            cells += [
                Cell(f"mixed, {name}", target=metric, changes=changes),
                Cell(f"fixed, {name}", "uniform", target=metric, changes=changes),
            ]
    return cells


register(
    "experiment",
    "mixed-bits",
    Experiment(
        title="mixed against fixed bits at equal cost",
        paper="HAQ (arXiv 1811.08886)",
        table="the tables of fixed and mixed precision at equal cost",
        claim="Bits that differ from layer to layer are better than 4 bits everywhere, at the same"
        " packed bytes and at the same bit operations, with the learning rate of both tuned.",
        scales=at_scales(every={"episode.fidelity": "finetune"}, smoke={"episode.steps": 4}),
        cells=_bits,
        columns=(*SEARCHED, Column("spent", "of the limit", "share", 0)),
        against="fixed, equal packed",
        work="experiments.ablations.works.bits:search",
    ),
)
