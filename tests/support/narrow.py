"""Narrow variants of every network of the zoo, on small images: what the conformance tests run."""

from collections.abc import Iterable
from typing import Any

import pytest

from pfrl.models.zoo.convnext import ConvNeXt
from pfrl.models.zoo.densenet import DenseNet
from pfrl.models.zoo.efficientnet import EfficientNetLite, Stage
from pfrl.models.zoo.googlenet import GoogLeNet
from pfrl.models.zoo.imagenet_resnet import ImageNetResNet
from pfrl.models.zoo.lenet import LeNet5
from pfrl.models.zoo.mixer import MlpMixer
from pfrl.models.zoo.mobilenet import MobileNetV1, MobileNetV2
from pfrl.models.zoo.mobilenet_v3 import SMALL, MobileNetV3
from pfrl.models.zoo.resnet import CifarResNet
from pfrl.models.zoo.shufflenet import ShuffleNetV2
from pfrl.models.zoo.squeezenet import SqueezeNet
from pfrl.models.zoo.unet import UNet
from pfrl.models.zoo.vgg import VGG
from pfrl.models.zoo.vit import VisionTransformer

# A few blocks of each kind; the whole tables are for the slow tests.
V1 = ((64, 1), (128, 2), (128, 1), (256, 2))
V2 = ((1, 16, 1, 1), (6, 24, 2, 2))
LITE = (Stage(3, 1, 16, 1, 1), Stage(5, 6, 24, 2, 2))
VGG9 = ((64, 64), (128,), (256,), (512,), (512,))
INCEPTIONS = ("3a", "4a", "5a")

CLASSIC: dict[str, tuple[Any, tuple[int, ...]]] = {
    "lenet5": (lambda rngs: LeNet5(4, (8, 8, 1), rngs=rngs), (8, 8, 1)),
    "plain20": (lambda rngs: CifarResNet(8, 4, 1, 4, None, rngs=rngs), (8, 8, 1)),
    "resnet20": (lambda rngs: CifarResNet(14, 4, 1, 4, rngs=rngs), (8, 8, 1)),
    "resnet20b": (lambda rngs: CifarResNet(8, 4, 1, 4, "B", rngs=rngs), (8, 8, 1)),
    "vgg16_bn": (lambda rngs: VGG(5, 2, (32, 32), 0.125, 12, stages=VGG9, rngs=rngs), (32, 32, 2)),
    "resnet18": (
        lambda rngs: ImageNetResNet(5, 2, (1, 1, 2, 1), False, 0.125, rngs=rngs),
        (32, 32, 2),
    ),
    "resnet50": (
        lambda rngs: ImageNetResNet(5, 2, (1, 2, 1, 1), width=1 / 8, rngs=rngs),
        (32, 32, 2),
    ),
    "mobilenet_v1": (lambda rngs: MobileNetV1(5, 2, 0.25, True, V1, rngs=rngs), (16, 16, 2)),
    "mobilenet_v2": (
        lambda rngs: MobileNetV2(5, 2, 0.25, 0.2, True, 4, V2, rngs=rngs),
        (16, 16, 2),
    ),
    "mobilenet_v3_small": (
        lambda rngs: MobileNetV3(5, 2, 0.5, 0.2, True, 4, SMALL[2:5], 64, rngs=rngs),
        (16, 16, 2),
    ),
    "squeezenet": (
        lambda rngs: SqueezeNet(5, 2, 0.25, small_images=True, rngs=rngs),
        (16, 16, 2),
    ),
    "googlenet": (
        lambda rngs: GoogLeNet(5, 2, 0.125, 0.4, True, INCEPTIONS, rngs=rngs),
        (16, 16, 2),
    ),
}
MODERN: dict[str, tuple[Any, tuple[int, ...]]] = {
    "efficientnet_lite0": (
        lambda rngs: EfficientNetLite(5, 2, 0.25, 0.2, True, 4, LITE, rngs=rngs),
        (16, 16, 2),
    ),
    "densenet40": (lambda rngs: DenseNet(5, 1, 10, 3, 4, rngs=rngs), (8, 12, 1)),
    "shufflenet_v2": (
        lambda rngs: ShuffleNetV2(5, 3, (4, 8, 12, 16, 20), (2, 2, 1), True, rngs=rngs),
        (16, 16, 3),
    ),
    "convnext_tiny": (
        lambda rngs: ConvNeXt(5, 3, (4, 8, 12), (1, 2, 1), 2, drop_path=0.2, rngs=rngs),
        (8, 12, 3),
    ),
    "unet": (lambda rngs: UNet(5, 2, (4, 6, 8), rngs=rngs), (8, 12, 2)),
    "vit_tiny": (
        lambda rngs: VisionTransformer(5, 3, (8, 12), 4, 12, 2, 3, 2, 0.1, rngs=rngs),
        (8, 12, 3),
    ),
    "vit_tiny_fused": (
        lambda rngs: VisionTransformer(5, 3, (8, 12), 4, 12, 2, 3, 2, 0.1, True, rngs=rngs),
        (8, 12, 3),
    ),
    "mixer": (lambda rngs: MlpMixer(5, 3, (8, 12), 4, 8, 2, 6, 10, rngs=rngs), (8, 12, 3)),
}

SAVED_OFTEN = {"densenet40", "unet"}
"""Networks that are saved and loaded by `make test`."""


def saved_often(names: Iterable[str]) -> list[Any]:
    """Parameters of a test, of which those that show nothing new are left to CI, or are slow."""
    return [
        name if name in SAVED_OFTEN else pytest.param(name, marks=_saved(name)) for name in names
    ]


def _saved(name: str) -> Any:
    # With those that are saved often, they have every kind of operation.
    often = name in ("resnet20b", "mobilenet_v2", "vit_tiny", "mixer")
    return pytest.mark.ci if often else pytest.mark.slow
