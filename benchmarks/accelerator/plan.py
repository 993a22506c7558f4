"""What is asked for: which rows, by which process, and until when. Plain data."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pfrl.evaluation.config import Fidelity, Precision

OURS, PYTORCH = "ours", "PyTorch"
FIDELITIES: tuple[Fidelity, ...] = ("reconstruct", "finetune")
SHARES = {OURS: 5, PYTORCH: 2}
"""Of the time, for a network of 20 layers; compiling takes most of ours, by layers."""


@dataclass(frozen=True)
class AcceleratorSettings:
    """Measure how many policies a second a GPU evaluates, here and in PyTorch."""

    networks: tuple[str, ...] = ("resnet20", "resnet56")
    """CIFAR ResNets: resnet8, resnet20, resnet32, ..."""
    populations: tuple[int, ...] = (1, 4, 16, 64)
    """Policies that are evaluated in one call."""
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    """Of products: float32, tensorfloat32 or bfloat16, here and in PyTorch."""
    data: str | None = None
    """Data set, as of 'pfrl compress'. Default: noise of CIFAR's shape, on random weights."""
    weights: tuple[Path, ...] = ()
    """Trained weights (.npz) for --data, one file a network. Default: those that come with the
    package."""
    minutes: float = 8.0
    """After which what is not measured is left out."""
    seed: int = 0
    """Of the policies, the noise and the training images."""
    out: Path = Path("runs/accelerator")
    """Directory of accelerator.json and accelerator.md."""
    force: bool = False
    """Measure on a CPU too: slow, and it says nothing of a GPU."""


class PlanError(ValueError):
    """A network that cannot be compared; the message says which can."""


class Left(Exception):
    """Why something was not measured."""


class Row(NamedTuple):
    """What is measured.

    Attributes:
      network: name in the zoo.
      who: 'ours' or 'PyTorch'.
      fidelity: of ours; PyTorch's is pruning and fine-tuning.
      precision: of products.
      population: policies in one call.
    """

    network: str
    who: str
    fidelity: Fidelity
    precision: Precision
    population: int

    @property
    def text(self) -> str:
        """In words."""
        many = "1 policy" if self.population == 1 else f"{self.population} policies"
        return f"{self.network}, {self.who}, {self.fidelity}, {self.precision}, {many}"


@dataclass(frozen=True)
class Report:
    """What was found, or why nothing was.

    Attributes:
      row: that it is about.
      policies_a_second: median over calls.
      first: seconds of the first call, which compiles.
      calls: that were timed.
      preparing: seconds for a policy on the host, before the call; ours alone.
      peak_gib: of the device's memory, where it says.
      accuracies: of the first call's policies.
      why: it was left out; None if it was not.
    """

    row: Row
    policies_a_second: float = 0.0
    first: float = 0.0
    calls: int = 0
    preparing: float | None = None
    peak_gib: float | None = None
    accuracies: tuple[float, ...] = ()
    why: str | None = None


class Job(NamedTuple):
    """What a process measures.

    Attributes:
      network: name in the zoo.
      who: as of ``Row``.
      rows: in order.
      until: share of the whole time at which it ends.
    """

    network: str
    who: str
    rows: tuple[Row, ...]
    until: float


def jobs_of(settings: AcceleratorSettings) -> list[Job]:
    """The processes in order, with the shares of the time that their networks' depths need."""
    pairs = [(network, who) for network in settings.networks for who in (OURS, PYTORCH)]
    needs = [SHARES[who] * max(depth(network), 8) for network, who in pairs]
    jobs, spent = [], 0
    for (network, who), need in zip(pairs, needs, strict=True):
        spent += need
        jobs.append(Job(network, who, tuple(rows_of(settings, network, who)), spent / sum(needs)))
    return jobs


def rows_of(settings: AcceleratorSettings, network: str, who: str) -> list[Row]:
    """Small populations first, and of ours both fidelities before the next precision."""
    if who == PYTORCH:
        return [Row(network, who, "finetune", p, 1) for p in settings.precisions]
    return [
        Row(network, who, fidelity, precision, population)
        for precision in settings.precisions
        for population in settings.populations
        for fidelity in FIDELITIES
    ]


def depth(network: str) -> int:
    """Layers of a CIFAR ResNet, by its name.

    Raises:
      PlanError: if it is none.
    """
    digits = network.removeprefix("resnet")
    if not network.startswith("resnet") or not digits.isdigit() or int(digits) % 6 != 2:
        raise PlanError(f"expected CIFAR ResNets such as resnet20; got '{network}'")
    return int(digits)
