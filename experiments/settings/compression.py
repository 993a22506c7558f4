"""What a user can set for ``pfrl compress``, and what an objective in words means."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from experiments.settings.blocks import (
    CommandSettings,
    Flat,
    LengthBlock,
    NetworkBlock,
    SettingsError,
    SpaceBlock,
)
from pfrl.bounds import Bounds, Count, NotNegative, Positive, Share, Whole
from pfrl.compression.recipe import REPAIRED, ROUNDED, Recipe
from pfrl.evaluation.config import EpisodeConfig
from pfrl.training.config import Precision

_USUAL: dict[str, Any] = {"knobs": ("keep",), "int8": "none", "reward": "accuracy"}
PREFERENCES: dict[str, dict[str, Any]] = {
    "speed": {**_USUAL, "target": "latency=0.5", "int8": None},
    "size": {**_USUAL, "target": "bytes=0.25", "int8": "fastest"},
    "both": {**_USUAL, "target": "latency=0.5", "int8": "fastest"},
}
"""What ``--prefer`` stands for; what is given besides it wins. Whether speed takes integers is
measured when the run begins."""
DEFAULTS = {**_USUAL, "target": "macs=0.5"}
NO_TARGET = "none"
EPISODES = 60
"""Of a search whose length nobody says, ..."""
DROP_EPISODES = 100
"""... and of one over several limits."""
PointsOfLoss = Annotated[float, Bounds(0, 100)]
Confidence = Annotated[float, Bounds(0.5, 1, below=True)]


@dataclass(frozen=True)
class FinishConfig:
    """What happens to the policy that won: training in full, with distillation from the base."""

    epochs: NotNegative | None = None
    """Passes over the training images; 0 is no training, so that integers are rounded after it
    (post-training quantization). Default: 40 in 300 to 1,000 steps, but 10 at least. The last
    fifth is left out where the quality on the search split has stopped rising."""
    batch: Count = 64
    """Images a step."""
    learning_rate: Positive = 0.02
    """Peak learning rate; rises over a fifth of the steps and falls as a cosine."""
    distillation_weight: Share = 0.7
    """Share of the loss that is distillation from the base network; 0 is none."""
    temperature: Positive = 4.0
    """Temperature T of the distillation."""
    precision: Precision | Literal["auto"] = "auto"
    """Of the products in this training: float32, tensorfloat32 (GPUs) or bfloat16 (sums in
    float32); auto is bfloat16 on a CPU that multiplies it faster (AMX, or AMD's Zen 4) where no bit
    widths are chosen."""
    ghost_batches: Count | None = None
    """Parts of a batch that are normalised each by its own statistics; 1 is the usual batch
    normalisation. 2 may be faster on a CPU, and costs accuracy in a short training. Default: 1, but
    4 for pictures of more than 128 pixels a side on a CPU."""
    candidates: Count = 5
    """Best policies of the search that are re-scored on images the reward did not use."""
    rescore_steps: Whole | None = None
    """Fine-tuning steps of a re-scored policy: more than in an episode, to tell good from best.
    Default: four passes over the training images, at most 128 steps, and at most 32 for pictures
    of more than 128 pixels a side on a CPU."""
    seconds: Positive = 5.0
    """Time spent on measuring the latency of each network, in turns with the others; less where all
    are steady before."""


@dataclass(frozen=True)
class CompressSettings(CommandSettings):
    """Compress a trained network: search a policy, fine-tune, export, measure, report."""

    FREE: ClassVar = ("out",)
    """What may change when a run goes on."""

    network: Flat[NetworkBlock] = field(default_factory=NetworkBlock)
    prefer: Literal["speed", "size", "both"] | None = None
    """The objective in words, which chooses target, knobs, integers and reward: half the latency,
    with integers if they are faster on this machine (speed); a quarter of the bytes, with integers
    (size); or half the latency with integers, which take a quarter of the bytes (both)."""
    target: str | None = None
    """Budget: METRIC=VALUE with macs, params, bytes (of the ONNX file), litert (bytes of the LiteRT
    file), packed (bytes of the packed file's arrays, where fewer than 8 bits count), bops or
    latency; up to 1 it is a share of the base network, with a unit absolute (latency=0.4ms,
    macs=20M, bytes=60kB); 'none' is no budget.
    Default: macs=0.5. With --max-drop the metric alone, such as latency."""
    max_drop: PointsOfLoss | None = None
    """The network that is cheapest in the target's metric and at most so many points worse than
    the base, such as 1.0: limits are tried one after the other, and the network that each yields
    is trained and judged on held-out images. The evaluations are shared out over the limits."""
    confidence: Confidence = 0.9
    """How sure the held-out images have to be that no more than --max-drop is lost."""
    space: Flat[SpaceBlock] = field(default_factory=SpaceBlock)
    reward: str | None = None
    """accuracy, -error, -error*log(macs), haq or latency. Default: accuracy."""
    latency_exponent: float = -0.07
    """Exponent w of the reward latency, accuracy · (latency / target)^w; lower favours speed."""
    agent: str = "ddpg"
    """Who decides: ddpg, td3, sac, tqc or ppo, which learn; random, evolution, greedy, tpe, gp,
    cmaes, solver or exhaustive, which search; uniform, shallow, deep or log_params, which are
    rules."""
    portable: bool = False
    """Let an agent that learns see only what is as long for every network, so that --agent-from
    can carry it over to one with another number of layers; not ppo."""
    agent_from: Path | None = None
    """A directory of 'compress' or 'pareto', or its agent.npz: the search starts from
    that trained agent, which is of the same kind and knobs, and portable for another network."""
    length: Flat[LengthBlock] = field(default_factory=LengthBlock)
    parallel: Count = 1
    """Episodes of the agent ppo that are played side by side, by a process on every core or
    together on a GPU or TPU. The other agents decide after every evaluation."""
    seed: Whole = 0
    """Seed of the search and of all training."""
    out: Path = Path("runs/compress")
    """Run directory. The same command goes on with what is there; another one is refused."""
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """What one evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods a policy is carried out. Where numbers are rounded and nothing else is said,
    biases are corrected, too."""
    finish: FinishConfig = field(default_factory=FinishConfig)
    """What happens to the winner."""
    controls: bool = False
    """Whether the base and the uniform policy get the winner's training too, to compare with."""

    def resolved(self) -> Self:
        """See ``CommandSettings``.

        Raises:
          SettingsError: if they do not go together.
        """
        chosen = PREFERENCES[self.prefer] if self.prefer else DEFAULTS
        settings = dataclasses.replace(
            self,
            target=self._target(chosen["target"]),
            space=self.space.filled(chosen["knobs"], chosen["int8"]),
            length=self.length.filled(EPISODES if self.max_drop is None else DROP_EPISODES),
            reward=self.reward or chosen["reward"],
        )
        if settings.space.opened()["quantized"] and settings.recipe == REPAIRED:
            settings = dataclasses.replace(settings, recipe=ROUNDED)
        super(CompressSettings, settings).resolved()
        settings.space.check_rank()
        if self.parallel > 1 and self.agent != "ppo":
            raise SettingsError(
                f"parallel is above 1 for the agent ppo alone; got {self.parallel} for {self.agent}"
            )
        return settings

    def rounded(self) -> Self:
        """The same of resolved settings, with integers."""
        space = dataclasses.replace(self.space, int8="fastest")
        recipe = ROUNDED if self.recipe == REPAIRED else self.recipe
        return dataclasses.replace(self, space=space, recipe=recipe)

    def _target(self, usual: str) -> str:
        """The budget; where limits are tried, all of the metric, which any network meets."""
        if self.max_drop is None:
            return self.target or usual
        metric, _, limit = (self.target or usual.partition("=")[0]).partition("=")
        if limit not in ("", "1") or metric == NO_TARGET:
            raise SettingsError(
                f"--max-drop finds the limit by itself; give --target a metric alone, such as"
                f" macs, not {self.target}"
            )
        return f"{metric}=1"
