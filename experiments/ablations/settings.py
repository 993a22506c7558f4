"""What a user can set for ``pfrl ablate``."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import tyro

from experiments.ablations.experiment import EXPERIMENTS, Scale, Shared
from experiments.settings.blocks import CommandSettings, Flat, NetworkBlock, SettingsError
from experiments.settings.launching import LaunchBlock
from pfrl.bounds import Count
from pfrl.registry import load_plugin


@dataclass(frozen=True)
class AblateSettings(CommandSettings):
    """Repeat an experiment of a paper, with seeds and intervals."""

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Experiments; --list tells which there are, and 'all' is all of them. FILE.py:NAME is one that
    a file of your own registers; its code is run."""
    list: bool = False
    """Show all experiments: paper and table, the claim that is tested, and what they cost."""
    json: bool = False
    """With --list: as one JSON document."""
    seeds: Count = 5
    """How often every cell is repeated: seeds 0, 1, ..."""
    scale: Scale = "small"
    """smoke: digits, seconds; small: CIFAR-10 on two cores, minutes to two hours; paper: the
    paper's own setting, for a GPU. They differ in numbers alone."""
    model: str | None = None
    """The network in place of the scale's, as of 'pfrl compress'."""
    data: str | None = None
    """The data set in place of the scale's."""
    weights: Path | None = None
    """Trained weights of the network. Default: those that come with the package."""
    mean: tuple[float, ...] | None = None
    """Of every channel: what was subtracted from pixels in [0, 1] in the network's training."""
    std: tuple[float, ...] | None = None
    """Of every channel: what pixels were divided by then."""
    episodes: Count | None = None
    """Evaluations of a search in place of the scale's."""
    launch: Flat[LaunchBlock] = field(default_factory=LaunchBlock)
    storage: str | None = None
    """Database in which finished jobs are kept, as of 'pfrl sweep'. Default: results.jsonl in the
    experiment's folder."""
    out: Path | None = None
    """Folder of an experiment's results, or, for several, of their folders. Default:
    runs/ablations/NAME-SCALE. The same command goes on with what is there, and may ask for more
    seeds; another one is refused."""

    def resolved(self) -> Self:
        """See ``CommandSettings``.

        Raises:
          SettingsError: if nothing is asked for, or an experiment is not known.
        """
        super().resolved()
        if not self.list and not self.names:
            raise SettingsError("which experiment? name one, or see all of them with --list")
        names = tuple(EXPERIMENTS) if self.names == ("all",) else self.names
        return replace(self, names=tuple(map(_known, names)))

    def of(self, name: str) -> Shared:
        """The settings of one experiment, with everything that the user changed."""
        settings = EXPERIMENTS[name].scales[self.scale]
        folder = f"{name}-{self.scale}"
        if self.out is None:
            out = Path("runs/ablations") / folder
        else:
            out = self.out if len(self.names) == 1 else self.out / folder
        own = NetworkBlock(
            self.model or settings.network.model,
            self.data or settings.network.data,
            mean=self.mean,
            std=self.std,
            weights=self.weights or settings.network.weights,
        )
        length = settings.length
        if self.episodes is not None:
            length = replace(length, episodes=self.episodes)
        return replace(
            settings, network=own, length=length, out=out, launch=self.launch, storage=self.storage
        )


def _known(given: str) -> str:
    """The name of an experiment, whose file is loaded if one is given."""
    file, _, name = given.rpartition(":")
    if file:
        load_plugin(Path(file))
    _ = EXPERIMENTS[name]  # raises if there is none
    return name
