"""Blocks of settings that the commands share: declared once, with their help and their bounds.

A block without a name of its own stands in a command's settings as ``Flat[Block]``, so that its
options are ``--model`` and not ``--network.model``.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import tyro

from envs.knobs import KnobName, needed
from pfrl.bounds import BelowOne, Bounds, Count, Positive, check

Block = TypeVar("Block")
FLOAT_BITS, WEIGHT_BITS, PORTABLE_BITS = 32, 8, 7
"""Bits of floats, the most of integer weights, and the most that every processor computes right."""
Flat = Annotated[Block, tyro.conf.arg(name="")]
"""A block whose options have no prefix."""

BitWidth = Annotated[int, Bounds(2, 8)]
KeepShare = Annotated[float, Bounds(0, 1, above=True)]


class SettingsError(ValueError):
    """Settings that contradict each other, or are outside of their bounds."""


@dataclass(frozen=True)
class CommandSettings:
    """What the settings of every command derive from."""

    def resolved(self) -> Self:
        """The same settings, checked, with every default that depends on others filled in.

        The command line calls it for every command; tyro would put what ``__post_init__`` raises
        into a frame of its own. A command with more to check extends it.

        Raises:
          SettingsError: if a setting is outside of its bounds, or settings contradict each other.
        """
        check(self, SettingsError)
        return self


@dataclass(frozen=True)
class SessionBlock:
    """What every command takes besides its settings, and what no result depends on by itself."""

    plugin: tyro.conf.UseAppendAction[tuple[Path, ...]] = ()
    """FILE.py that registers methods, metrics, rewards, agents or data sets of your own
    (pfrl.register), to be used by name. May be given several times; the files' code is run."""
    compilation_cache: Literal["none"] | Path | None = None
    """Folder of compiled programs, with which later runs start sooner, or 'none'. Default: xla in
    $PFRL_CACHE, or pfrl/xla in the user's cache folder."""


@dataclass(frozen=True)
class ModelBlock:
    """Which network, and for which data."""

    model: str = "resnet8"
    """A network of the zoo, such as lenet5, resnet20, resnet56b (option B shortcuts), vgg16_bn,
    resnet50, mobilenet_v2, densenet40, shufflenet_v2, convnext_tiny or mixer_tiny; or your own:
    FILE.py:FUNCTION, which takes nothing and returns (model, x, ...): an nnx.Module, or the pair
    (module, variables) of a Linen module or a function of its parameters, and example inputs.
    The file may have MEAN and STD (of every channel, for pixels in [0, 1]) and CLASSES (names of
    the outputs, in their order). Its code is run. Or FILE.onnx, as PyTorch and Keras export it."""
    data: str = "digits"
    """Data set: digits, fashion_mnist, cifar10, imagefolder:PATH (a folder or .zip), npz:PATH, for
    points digits_landmarks and digits_pose; images:PATH, pictures without labels, for which the
    base network answers; or your own: FILE.py:FUNCTION, which takes nothing and returns a
    pfrl.Dataset, (images, targets), or a sequence of such pairs. Its code is run."""
    image_size: int | None = None
    """Pixels a side that pictures of imagefolder: and images: are brought to, as is usual: short
    side resized to 8/7 of it, centre cut out, random resized crops in training. Default: as they
    are."""
    skip_broken: bool = False
    """Go on without pictures that cannot be read; how many is said."""

    mean: tuple[float, ...] | None = None
    """Of every channel, for pixels in [0, 1]: what was subtracted in the network's training, such
    as 0.485 0.456 0.406. Default: what the network's file says, else the training images' own."""
    std: tuple[float, ...] | None = None
    """Of every channel: what pixels were divided by then, such as 0.229 0.224 0.225."""

    def __post_init__(self) -> None:
        # One value says what the data are, in records and for worker processes.
        written = {
            "size": self.image_size,
            "skip_broken": "1" if self.skip_broken else None,
            "mean": None if self.mean is None else ",".join(map(repr, self.mean)),
            "std": None if self.std is None else ",".join(map(repr, self.std)),
        }
        options = "&".join(
            f"{name}={value}" for name, value in written.items() if value is not None
        )
        if options:
            object.__setattr__(self, "data", f"{self.data}?{options}")
            for name, nothing in {"image_size": None, "skip_broken": False}.items():
                object.__setattr__(self, name, nothing)
            for name in ("mean", "std"):
                object.__setattr__(self, name, None)


@dataclass(frozen=True)
class NetworkBlock(ModelBlock):
    """Which trained network."""

    weights: Path | None = None
    """Trained weights: .npz, .safetensors, Flax's .msgpack, or the folder of an Orbax checkpoint;
    nothing of them is executed. Default: those that come with the package for this model and data;
    of FILE.py:FUNCTION the arrays that it returns, of FILE.onnx its own."""


@dataclass(frozen=True)
class LengthBlock:
    """How long a search is: in evaluations, or in images that they may look at."""

    episodes: Count | None = None
    """Evaluations of a search, a final deterministic actor's included. Default: 60 (sweep: 150),
    or as many as --images allows."""
    images: Count | None = None
    """Images that the evaluations of a search may look at, to train on and to judge, in place of
    --episodes. An evaluation that came from a cache counts as if it had been made."""

    def filled(self, episodes: int) -> "LengthBlock":
        """The same with so many episodes, if nothing says how long a search is.

        Raises:
          SettingsError: if two options do.
        """
        if None not in (self.episodes, self.images):
            raise SettingsError("--episodes and --images both say how long; leave one of them out")
        if self.images is None and self.episodes is None:
            return replace(self, episodes=episodes)
        return self

    def evaluations(self, each: int) -> int:
        """Evaluations of a search; of a filled block.

        Args:
          each: images of one, as of ``EpisodeConfig.images_each``.

        Raises:
          SettingsError: if the images are not enough for one.
        """
        if self.images is None:
            assert self.episodes is not None, "not filled"
            return self.episodes
        if self.images < each:
            raise SettingsError(
                f"one evaluation looks at {each:,} images; --images is at least that, got"
                f" {self.images:,}"
            )
        return self.images // each


@dataclass(frozen=True)
class SpaceBlock:
    """The search space: what can be decided at every layer, and between which bounds."""

    knobs: tuple[KnobName, ...] | None = None
    """What the agent decides at every layer. Default: keep, or what --prefer says."""
    keep_min: KeepShare = 0.2
    """Smallest share of a group's channels that a policy may keep, before rounding."""
    round_to: Count = 4
    """Kept channels, and ranks, are a multiple of this. Runtimes are slow at odd counts: where 16
    or more channels are no multiple of 4, ONNX Runtime's convolutions take twice as long."""
    bits: tuple[BitWidth, BitWidth] = (2, 8)
    """Lowest and highest bit width of the knobs weight_bits and act_bits."""
    edge_bits: BitWidth = 8
    """Bit width of the first and the last layer, which are not decided."""
    sparsity_range: tuple[BelowOne, BelowOne] = (0.0, 0.9)
    """Smallest and largest share of zeros of the knob sparsity."""
    sparsity_step: Positive = 0.1
    """From one share of zeros to the next."""
    int8: Literal["none", "portable", "fastest"] | None = None
    """Whether all that no knob rounds has integers of 8 bits: not (none); with weights of 7 bits,
    which every processor computes right (portable); or with 8 bits where this processor does so in
    ONNX Runtime, those with VNNI, and 7 elsewhere (fastest). Default: none, or what --prefer
    says; with --prefer speed the last, if a tenth of the latency is won by it."""
    latency_runtime: str = "onnx"
    """In which runtime's files a latency counts: onnx (ONNX Runtime), or litert (LiteRT), which
    phones have; the extra litert brings it."""
    decompose: str | None = None
    """How layers become two with a rank between them, for the knob rank: a product of matrices
    (svd), or a convolution whose channels (channel) or whose sides (spatial) are parted. Goes with
    --recipe.criterion l2."""

    def filled(self, knobs: tuple[KnobName, ...], int8: str | None = "none") -> "SpaceBlock":
        """The same with these knobs and integers, where none were given."""
        return replace(self, knobs=self.knobs or knobs, int8=self.int8 or int8)

    def check_rank(self) -> None:
        """See to it that the knob rank and a decomposition come together.

        Raises:
          SettingsError: if there is one without the other.
        """
        if ("rank" in (self.knobs or ())) != (self.decompose is not None):
            raise SettingsError(
                "the knob rank and --decompose svd, channel or spatial go together; give both, or"
                " neither"
            )

    def bounds(self) -> dict[str, Any]:
        """What ``envs.Problem`` takes of it, by name."""
        assert self.knobs is not None, "not resolved"
        most = PORTABLE_BITS if self.int8 == "portable" else WEIGHT_BITS
        fixed = (FLOAT_BITS, FLOAT_BITS) if self.int8 in (None, "none") else (most, 8)
        return {
            "knobs": self.knobs,
            "keep_min": self.keep_min,
            "round_to": self.round_to,
            "bits": (min(self.bits[0], most), min(self.bits[1], most)),
            "edge_bits": min(self.edge_bits, most),
            "fixed_bits": fixed,
            "sparsity": self.sparsity_range,
            "sparsity_step": self.sparsity_step,
        }

    def opened(self) -> dict[str, Any]:
        """What ``envs.NetworkTask`` takes of it, by name."""
        fields = needed(self.knobs or ())
        return {
            "quantized": "quantized" in fields or self.int8 not in (None, "none"),
            "sparse": "sparse" in fields,
            "decompose": self.decompose if "decompose" in fields else None,
        }
