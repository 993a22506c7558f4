"""What methods may know of the base network: calibration statistics, gathered once for all."""

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # a recipe is checked against the registries, and must not wait for JAX
    from collections.abc import Sequence

    from pfrl.graph import Graph, Variables
    from pfrl.methods.quantization.ranges import MeanInputs, Observations
    from pfrl.methods.repair.reconstruct import Grams
    from pfrl.tasks.losses import Loss

STATISTICS = ("batches", "moments", "inputs", "sites", "histograms")
"""What a method can say that it *needs*; of ``Statistics`` only what is needed is gathered."""


class Options(Protocol):
    """The numbers of a recipe that its methods share; see ``Recipe``."""

    @property
    def normalise(self) -> bool: ...
    @property
    def ridge(self) -> float: ...
    @property
    def positions(self) -> int: ...


class Statistics(Protocol):
    """What a method is given of the base network; ``CalibrationStatistics`` keeps to it.

    Attributes:
      graph: of the base network.
      recipe: its numbers.
      variables: arrays of full size, which nobody changes.
      loss: of the task, ``(outputs, targets) -> scalar``.
      seed: of whatever is random.
      batches: ``(inputs [N, ...], targets)`` of training data, if a method needs 'batches'.
      moments: of what every kernel reads, if one needs 'moments': see ``Gram``.
      inputs: means of what every layer reads, if one needs 'inputs': see ``MeanInput``.
      sites: extremes of what every site holds, if one needs 'sites': see ``Observation``;
        with histograms, for which the data are run again, if one needs 'histograms' too.
    """

    @property
    def graph(self) -> "Graph": ...
    @property
    def recipe(self) -> Options: ...
    @property
    def variables(self) -> "Variables": ...
    @property
    def loss(self) -> "Loss": ...
    @property
    def seed(self) -> int: ...
    @property
    def batches(self) -> "Sequence[tuple[Any, Any]]": ...
    @property
    def moments(self) -> "Grams": ...
    @property
    def inputs(self) -> "MeanInputs": ...
    @property
    def sites(self) -> "Observations": ...
