"""What a user can set for ``pfrl compress``, and what a wish in words means."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pfrl.compression.recipe import REPAIRED, Recipe
from pfrl.cost import Budget
from pfrl.evaluation.config import EpisodeConfig

PREFERENCES: dict[str, dict[str, Any]] = {
    "speed": {"target": "latency=0.5", "knobs": ("keep",), "reward": "accuracy"},
    "size": {"target": "bytes=0.25", "knobs": ("keep", "weight_bits"), "reward": "accuracy"},
}
"""What ``--prefer`` stands for; what is given besides it wins."""
DEFAULTS: dict[str, Any] = {"target": "macs=0.5", "knobs": ("keep",), "reward": "accuracy"}
NO_TARGET = "none"


class SettingsError(ValueError):
    """Settings that contradict each other."""


@dataclass(frozen=True)
class FinishConfig:
    """What happens to the policy that won: training in full, with distillation from the base."""

    epochs: float | None = None
    """Passes over the training images. Default: 1, or as many as make 1,000 steps."""
    batch: int = 64
    """Images a step."""
    learning_rate: float = 0.02
    """Peak learning rate; rises over a fifth of the steps and falls as a cosine."""
    distillation_weight: float = 0.7
    """Share of the loss that is distillation from the base network; 0 is none."""
    temperature: float = 4.0
    """Temperature T of the distillation."""
    candidates: int = 5
    """Best policies of the search that are re-scored on images the reward did not use."""
    rescore_steps: int = 128
    """Fine-tuning steps of a re-scored policy: more than in an episode, to tell good from best."""
    controls: bool = True
    """Whether the base network and the uniform policy get the same training, to compare with;
    the uniform policy is then re-scored too, and handed over if it is the best."""
    seconds: float = 20.0
    """Time spent on measuring latencies."""


@dataclass(frozen=True)
class CompressSettings:
    """Compress a trained network: search a policy, fine-tune, export, measure, report."""

    model: str = "resnet8"
    """A network of the zoo, such as lenet5, resnet20, resnet56b (option B shortcuts), vgg16_bn,
    resnet50, mobilenet_v2, densenet40, shufflenet_v2, convnext_tiny or mixer_tiny."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10 or imagefolder:PATH (a folder or .zip)."""
    weights: Path | None = None
    """Trained weights (.npz). Default: those that come with the package for this model and data."""
    prefer: Literal["speed", "size"] | None = None
    """A wish in words: it chooses target, knobs and reward."""
    target: str | None = None
    """Budget: METRIC=VALUE with macs, params, bytes, bops or latency; up to 1 it is a share of the
    base network, with a unit absolute (latency=0.4ms, macs=20M, bytes=60kB); 'none' is no budget.
    Default: macs=0.5."""
    knobs: tuple[Literal["keep", "weight_bits", "act_bits"], ...] | None = None
    """What the agent decides at every layer. Default: keep."""
    reward: str | None = None
    """accuracy, -error, -error*log(macs), haq or latency. Default: accuracy."""
    latency_exponent: float = -0.07
    """Exponent w of the reward latency, accuracy · (latency / target)^w; lower favours speed."""
    agent: str = "ddpg"
    """Who decides: ddpg, td3, sac, tqc or ppo, which learn; random, evolution, greedy, tpe, gp,
    cmaes or exhaustive, which search; uniform, shallow, deep or log_params, which are rules."""
    episodes: int = 60
    """Evaluations of the search, the final deterministic actor's included."""
    parallel: int = 1
    """Episodes of the agent ppo that are played side by side, by a process on every core or
    together on a GPU or TPU. The other agents decide after every evaluation."""
    seed: int = 0
    """Seed of the search and of all training."""
    out: Path = Path("runs/compress")
    """Run directory."""
    resume: bool = False
    """Go on with the run in the run directory, which must have the same settings."""
    keep_min: float = 0.2
    """Smallest share of a group's channels that a policy may keep, before rounding."""
    round_to: int = 4
    """Kept channels are a multiple of this. Runtimes are slow at odd counts: where 16 or more
    channels are no multiple of 4, ONNX Runtime's convolutions take twice as long."""
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    """What one evaluation does."""
    recipe: Recipe = REPAIRED
    """By which methods a policy is carried out."""
    finish: FinishConfig = field(default_factory=FinishConfig)
    """What happens to the winner."""

    def resolved(self) -> "CompressSettings":
        """With every default that depends on other settings filled in.

        Raises:
          SettingsError, BudgetError: if they do not go together.
        """
        chosen = PREFERENCES[self.prefer] if self.prefer else DEFAULTS
        filled = {
            name: getattr(self, name) if getattr(self, name) is not None else value
            for name, value in chosen.items()
        }
        settings = dataclasses.replace(self, **filled)
        settings.budget()
        if self.episodes < 1:
            raise SettingsError(f"episodes is a whole number from 1, got {self.episodes}")
        if self.parallel < 1 or (self.parallel > 1 and self.agent != "ppo"):
            raise SettingsError(
                "parallel is a whole number from 1, and above 1 for the agent ppo alone; got"
                f" {self.parallel} for {self.agent}"
            )
        if self.seed < 0:
            raise SettingsError(f"seed is a whole number from 0, got {self.seed}")
        counts = {
            "episode.batch": self.episode.batch,
            "episode.ghost_batches": self.episode.ghost_batches,
            "episode.search_images": self.episode.search_images,
            "finish.batch": self.finish.batch,
            "finish.candidates": self.finish.candidates,
        }
        for name, value in counts.items():
            if value < 1:
                raise SettingsError(f"{name} is a whole number from 1, got {value}")
        for name, value in (
            ("episode.steps", self.episode.steps),
            ("finish.rescore_steps", self.finish.rescore_steps),
        ):
            if value < 0:
                raise SettingsError(f"{name} is a whole number from 0, got {value}")
        finish = self.finish
        for name, number in (
            ("finish.epochs", 1.0 if finish.epochs is None else finish.epochs),
            ("finish.learning_rate", finish.learning_rate),
            ("finish.temperature", finish.temperature),
            ("finish.seconds", finish.seconds),
        ):
            if not 0 < number < float("inf"):
                raise SettingsError(f"{name} is a number above 0, got {number}")
        if not 0 <= finish.distillation_weight <= 1:
            raise SettingsError(
                f"finish.distillation_weight lies in 0 to 1, got {finish.distillation_weight}"
            )
        return settings

    def budget(self) -> Budget | None:
        assert self.target is not None
        return None if self.target == NO_TARGET else Budget.parse(self.target)

    @property
    def quantized(self) -> bool:
        return bool({"weight_bits", "act_bits"} & set(self.knobs or ()))

    @property
    def needs_latency(self) -> bool:
        """Whether the search reads predicted latencies."""
        budget = self.budget()
        return self.reward == "latency" or (budget is not None and budget.metric == "latency")

    def identity(self) -> dict[str, Any]:
        """All that decides about the results, as plain data."""
        plain = dataclasses.asdict(self)
        for name in ("out", "resume"):
            del plain[name]
        return {name: str(v) if isinstance(v, Path) else v for name, v in plain.items()}
