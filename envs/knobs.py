"""Knobs: what can be decided at every layer. Declared here alone; importing this costs nothing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

KnobName = Literal["keep", "weight_bits", "act_bits", "sparsity", "rank"]


@dataclass(frozen=True)
class Knob:
    """A kind of decision."""

    help: str
    """What is decided, as commands say it."""
    decides: str
    """The field of ``pfrl.cost.metrics.Assignment`` that its decisions are written to."""
    needs: str = ""
    """The field of a task that must be set for its evaluations to honour the knob; else empty."""


KNOBS: dict[KnobName, Knob] = {
    "keep": Knob("how many channels stay", "counts"),
    "weight_bits": Knob("bit width of the kernel", "weight_bits", "quantized"),
    "act_bits": Knob("bit width of the layer's input", "act_bits", "quantized"),
    "sparsity": Knob("share of zeros in the kernel", "sparsity", "sparse"),
    "rank": Knob("rank of a decomposed layer", "counts", "decompose"),
}
"""All that there are, by the names that ``Problem.knobs`` takes. ``envs.choices`` says which
choices each of them has at a layer."""


def needed(knobs: Iterable[str]) -> frozenset[str]:
    """The fields that a task must have set for these knobs: of quantized, sparse, decompose."""
    return frozenset(knob.needs for name, knob in KNOBS.items() if name in set(knobs)) - {""}
