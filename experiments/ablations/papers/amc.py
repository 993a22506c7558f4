"""AMC's own questions: rules of thumb, limits, and from which images the reward comes."""

from dataclasses import replace

from agents import DDPGOptions
from experiments.ablations.experiment import SEARCHED, Cell, Experiment, Shared
from experiments.ablations.scales import HARD, at_scales
from experiments.report.studies.layout import Column
from pfrl.registry import register

register(
    "experiment",
    "heuristics",
    Experiment(
        title="rules of thumb against learning at equal MACs",
        paper="AMC (arXiv 1802.03494)",
        table="table 2, Plain-20 and ResNet-56 on CIFAR-10 at half the MACs",
        claim="At half the MACs DDPG's policy is better than uniform, shallow and deep pruning,"
        " before and after fine-tuning.",
        scales=at_scales(smoke=HARD["smoke"]),
        cells=lambda settings: [
            Cell("ddpg"),
            *(Cell(name, agent=name) for name in ("uniform", "shallow", "deep")),
        ],
        columns=(
            Column("search_accuracy", "before fine-tuning, search images", "share"),
            Column("test_accuracy", "after fine-tuning, test images", "share", compared=True),
        ),
        against="ddpg",
    ),
)

PLAIN = DDPGOptions(screen=1)
"""Without screening, whose Gaussian process looks at no observation."""
LIMITS = (0.8, 0.65, 0.5, 0.35, 0.2)

register(
    "experiment",
    "limits",
    Experiment(
        title="learning against the uniform policy from 80 to 20 % of the MACs",
        paper="PocketFlow (Wu et al. 2018) and AMC (arXiv 1802.03494)",
        table="PocketFlow's results over pruning ratios",
        claim="DDPG's gain over the uniform policy grows with the compression.",
        scales=at_scales(),
        cells=lambda settings: [
            Cell(f"{agent} at {limit:.0%}", agent=agent, target=f"macs={limit}")
            for limit in LIMITS
            for agent in ("ddpg", "uniform")
        ],
        columns=SEARCHED,
        against="uniform",
        tasks=True,
    ),
)  # fmt: skip


def _images(settings: Shared) -> list[Cell]:
    seen = {"network.data": f"seen:{settings.network.data}"}
    return [Cell("held-out images"), Cell("training images", changes=seen)]


@register("dataset", "seen:")
def seen(place: str):
    """Another data set whose search images are some of its training images: a reward that leaks.

    Args:
      place: name of the data set, as of ``pfrl.data.load``.
    """
    import numpy as np

    from pfrl.data import load

    dataset = load(place)
    count = min(len(dataset.search), len(dataset.train))
    some = np.linspace(0, len(dataset.train) - 1, count).round().astype(int)
    return replace(dataset, search=dataset.train.take(some))


register(
    "experiment",
    "leakage",
    Experiment(
        title="reward from training images or from held-out ones",
        paper="AMC (arXiv 1802.03494)",
        table="section 4: the reward's images are held out of the training set",
        claim="Policies whose reward came from training images are worse on test images.",
        scales=at_scales(**HARD),
        cells=_images,
        columns=SEARCHED,
        against="held-out images",
    ),
)

FEATURES = {
    "layer": ("index", "c_out", "c_in", "height", "width", "stride", "kernel", "macs", "conv",
              "depthwise", "dense"),
    "costs so far": ("reduced", "rest"),
    "last action": ("last_action",),
    "budget": ("limit", "spent", "left"),
    "decisions so far": ("decided",),
}  # fmt: skip
"""Observations that tell of one thing."""
BEYOND_AMC = ("conv", "depthwise", "dense", *FEATURES["budget"], *FEATURES["decisions so far"])

register(
    "experiment",
    "features",
    Experiment(
        title="what the agent sees, removed one by one",
        paper="AMC (arXiv 1802.03494)",
        table="table 1's state, and what was added to it",
        claim="Every group of observations helps DDPG to find better policies.",
        scales=at_scales(**HARD),
        cells=lambda settings: [
            Cell("everything", options=PLAIN),
            *(
                Cell(f"without {name}", options=PLAIN, problem={"hidden": hidden})
                for name, hidden in FEATURES.items()
            ),
            Cell("AMC's eleven alone", options=PLAIN, problem={"hidden": BEYOND_AMC}),
        ],
        columns=SEARCHED,
        against="everything",
    ),
)
