"""Every network of the zoo at its published size: what can be removed, against hand derivations."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from pfrl.graph import trace
from pfrl.graph.frontends import as_source
from pfrl.models import catalogue as zoo
from pfrl.models.zoo.vit import VisionTransformer
from tests.support.derivations import (
    Derivation,
    Network,
    cifar,
    efficientnet_lite0,
    googlenet,
    imagenet_resnet,
    lenet5,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3_small,
    pose8,
    squeezenet,
    vgg16,
)
from tests.support.derivations_modern import (
    convnext_tiny,
    densenet40,
    mixer,
    shufflenet_v2,
    unet,
    vit_tiny,
)
from tests.support.marks import shown_elsewhere

OUTPUT = "the network's output"


class Case(NamedTuple):
    """A network and what is expected of it.

    Attributes:
      derivation: its groups and multiply-accumulates.
      groups, channels: how many can be removed, as a sum that says which.
      macs: published, or by hand in tests/test_zoo_classic.py and test_zoo_modern.py;
        in units of 10^9 where there are decimals.
      digits: decimals of it.
      num_classes, image_shape: of the data.
      stays: channels that cannot be removed by reason, beside the output.
    """

    derivation: Network
    groups: int
    channels: int
    macs: float
    digits: int = 0
    num_classes: int = 1000
    image_shape: tuple[int, int, int] = (224, 224, 3)
    stays: Mapping[str, int] = MappingProxyType({})


def cifar_case(n: int, shortcut: str | None) -> Case:
    """Depth 6n + 2: n inner groups of 16, 32 and 64 channels, and the streams.

    With option A those are the first stage's 16, and what the zeros add: 16 and
    32. With B they are as wide as their stages. A plain network has no sums: n
    groups more a stage, and the stem.
    """
    streams = {"A": (16, 16, 32), "B": (16, 32, 64), None: (16, *(16, 32, 64) * n)}[shortcut]
    return Case(
        cifar(6 * n + 2, shortcut),
        groups=3 * n + len(streams),
        channels=112 * n + sum(streams),
        macs=443_008 + (6 * n - 1) * 2_359_296 + (262_144 if shortcut == "B" else 0),
        num_classes=10,
        image_shape=(32, 32, 3),
    )


def mixer_case(width, depth, tokens, patch, along, across, macs, image_shape) -> Case:
    """Two hidden layers a block; the stream stays in the stem and in every block's last layer.

    The places that the mixing along tokens makes are those of the image.
    """
    return Case(
        mixer(tokens, patch, width, depth, along, across),
        groups=2 * depth,
        channels=depth * (along + across),
        macs=macs,
        image_shape=image_shape,
        stays={
            "'reduce_sum' over it": (1 + depth) * width,
            "it meets places that cannot be removed": depth * tokens,
        },
    )


CASES = {
    # Two convolutions and two dense layers. 784*25*6 + 100*25*96 + 48,000 + 10,080 + 840 MACs.
    "lenet5": Case(lenet5, 4, 6 + 16 + 120 + 84, 416_520, num_classes=10, image_shape=(28, 28, 1)),
    "plain20": cifar_case(3, None),
    **{f"resnet{6 * n + 2}": cifar_case(n, "A") for n in (1, 3, 5, 7, 9, 18)},
    **{f"resnet{6 * n + 2}b": cifar_case(n, "B") for n in (1, 3, 5, 7, 9, 18)},
    # All layers but the last.
    "vgg16_bn": Case(vgg16, 13 + 2, 64 * 2 + 128 * 2 + 256 * 3 + 512 * 6 + 4096 * 2, 15.47, 2),
    # A stream for each of four stages (the stem's is the first), and one inside of every block.
    "resnet18": Case(
        imagenet_resnet((2, 2, 2, 2), False), 4 + 8, 960 + 64 * (2 + 4 + 8 + 16), 1.814, 3
    ),
    "resnet34": Case(
        imagenet_resnet((3, 4, 6, 3), False), 4 + 16, 960 + 64 * (3 + 8 + 24 + 24), 3.664, 3
    ),
    # The stem, a stream of four times the width for every stage, and two inside of every block.
    "resnet50": Case(
        imagenet_resnet((3, 4, 6, 3), True),
        1 + 4 + 2 * 16,
        64 + 4 * 960 + 2 * 64 * (3 + 8 + 24 + 24),
        4.089,
        3,
    ),
    # The stem and 13 1×1 convolutions.
    "mobilenet_v1": Case(
        mobilenet_v1, 14, 32 + 64 + 2 * 128 + 2 * 256 + 6 * 512 + 2 * 1024, 0.568740, 6
    ),
    # The stem, seven streams, the inside of all 17 blocks (in lite0 16) but the first, the last.
    "mobilenet_v2": Case(
        mobilenet_v2,
        1 + 7 + 16 + 1,
        32
        + (16 + 24 + 32 + 64 + 96 + 160 + 320)
        + 6 * (16 + 2 * 24 + 3 * 32 + 4 * 64 + 3 * 96 + 3 * 160)
        + 1280,
        0.301,
        3,
    ),
    "efficientnet_lite0": Case(
        efficientnet_lite0,
        1 + 7 + 15 + 1,
        32
        + (16 + 24 + 40 + 80 + 112 + 192 + 320)
        + 6 * (16 + 2 * 24 + 2 * 40 + 3 * 80 + 3 * 112 + 4 * 192)
        + 1280,
        0.385,
        3,
    ),
    # The stem, five streams, the inside of all 11 blocks but the first, nine squeezes, two layers.
    "mobilenet_v3_small": Case(
        mobilenet_v3_small,
        1 + 5 + 10 + 9 + 2,
        16
        + (16 + 24 + 40 + 48 + 96)
        + (72 + 88 + 96 + 240 + 240 + 120 + 144 + 288 + 576 + 576)
        + (8 + 24 + 64 + 64 + 32 + 40 + 72 + 144 + 144)
        + (576 + 1024),
        0.057,
        3,
    ),
    # The stem and three in each of eight fire modules: s squeezed and twice 4s.
    "squeezenet": Case(squeezenet, 1 + 3 * 8, 64 + 9 * 2 * (16 + 32 + 48 + 64), 0.349, 3),
    # Three in the stem, six in each of nine modules; the table's outputs and its reductions.
    "googlenet": Case(
        googlenet,
        3 + 6 * 9,
        (64 + 64 + 192)
        + (256 + 480 + 512 + 512 + 512 + 528 + 832 + 832 + 1024)
        + (96 + 128 + 96 + 112 + 128 + 144 + 160 + 160 + 192)
        + (16 + 32 + 16 + 24 + 24 + 32 + 32 + 32 + 48),
        1.498,
        3,
    ),
    # The stem, 36 layers and two transitions.
    "densenet40": Case(
        densenet40,
        1 + 36 + 2,
        16 + 36 * 12 + 160 + 304,
        264_812_928,
        num_classes=10,
        image_shape=(32, 32, 3),
    ),
    # The stem, the last layer, the first layer of 16 branches, and the ways through the stages. In
    # a stage of u units a channel passes some units and then enters a branch, or none: u ways from
    # both branches of the first unit, and u - j from the j-th behind it, 2u + u(u - 1) / 2 in all.
    # Every unit makes twice half of the stage's channels, the first one three times. Of the 116
    # in the second stage 58 enter the next branch, then 29, ..., and single ones are left for the
    # last unit and to pass it, from both branches: four in sum, of which those that pass are
    # listed at the depthwise convolution behind as well.
    "shufflenet_v2": Case(
        shufflenet_v2,
        2 + 16 + (8 + 6) + (16 + 28 - 4) + (8 + 6),
        24 + 1024 + 58 * (3 + 2 * 3) + 116 * (3 + 2 * 7) - 4 + 232 * (3 + 2 * 3),
        0.145,
        3,
        stays={"the only one of its kind": 4 + 2},
    ),
    # Four streams, and four times their width inside of every block.
    "convnext_tiny": Case(
        convnext_tiny,
        4 + 18,
        96 + 192 + 384 + 768 + 4 * (3 * 96 + 3 * 192 + 9 * 384 + 3 * 768),
        4.456,
        3,
    ),
    # The stream; heads, queries with keys, values and hidden layer of every block.
    "vit_tiny": Case(vit_tiny(False), 1 + 4 * 12, 192 + 12 * (3 + 64 + 64 + 768), 1_253_683_200),
    "vit_tiny_fused": Case(vit_tiny(True), 1 + 3 * 12, 192 + 12 * (3 + 64 + 768), 1_253_683_200),
    "mixer_s16": mixer_case(512, 8, 196, 16, 256, 2048, 3_776_958_464, (224, 224, 3)),
    # 64*48*128 + 4 * (2*64*64*128 + 2*64*128*512) + 128*1000.
    "mixer_tiny": mixer_case(128, 4, 64, 4, 64, 512, 38_269_952, (32, 32, 3)),
    # 18 convolutions, twice for every width on both sides, and four transposed ones.
    "unet": Case(
        unet,
        18 + 4,
        2 * 1024 + 5 * (64 + 128 + 256 + 512),
        735_040 * 256**2,
        num_classes=2,
        image_shape=(256, 256, 3),
    ),
    "pose8": Case(
        pose8,
        3 + 3,
        (16 + 32 + 64) + (16 + 16 + 32),
        12_279_808,  # 442,368 + 4,718,592 + twice 3,538,944 + 40,960
        num_classes=10,
        image_shape=(32, 32, 3),
    ),
}


def abstract(name: str, case: Case) -> nnx.Module:
    """The network without arrays."""
    if name == "vit_tiny_fused":
        return nnx.eval_shape(lambda: VisionTransformer(1000, fused_qkv=True, rngs=nnx.Rngs(0)))
    return nnx.eval_shape(lambda: zoo.build(name, case.num_classes, case.image_shape, 0))


# Deeper networks of a family whose other depths are derived alike.
DEEP = [name for name in CASES if name.rstrip("b").endswith(("32", "44", "56", "110"))]


@pytest.mark.parametrize("name", shown_elsewhere(CASES, DEEP))
def test_what_can_be_removed_and_what_is_left(name):
    case = CASES[name]
    image = jax.ShapeDtypeStruct((2, *case.image_shape), jnp.float32)
    graph = trace(as_source(abstract(name, case)), image)
    whole, half = Derivation(lambda size: size), Derivation(lambda size: size // 2)
    case.derivation(whole)
    case.derivation(half)

    assert (len(graph.groups), sum(graph.full_counts().values())) == (case.groups, case.channels)
    assert sorted(graph.full_counts().values()) == sorted(whole.sizes)
    assert graph.macs == whole.macs
    assert case.macs == (round(graph.macs / 1e9, case.digits) if case.digits else graph.macs)
    counts = {group: size // 2 for group, size in graph.full_counts().items()}
    assert graph.macs_at(counts) == half.macs

    reasons = Counter()
    for found in graph.frozen.values():
        reasons.update(found)
    assert reasons == {OUTPUT: case.num_classes, **case.stays}
    assert graph.frozen[graph.layers[-1].name] == {OUTPUT: case.num_classes}
    assert graph.unknown == frozenset()


def test_no_network_is_left_out():
    assert set(CASES) == {*zoo.MODELS, *zoo.DENSE_MODELS, "vit_tiny_fused"}
