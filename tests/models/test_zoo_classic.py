"""Convolutional networks for ImageNet and CIFAR ResNets against their published numbers."""

import functools
from typing import Any

import jax
import pytest
from flax import nnx

from pfrl.models import catalogue as zoo
from pfrl.models.zoo import efficientnet
from pfrl.models.zoo.efficientnet import B0, EfficientNetLite
from pfrl.models.zoo.googlenet import GoogLeNet
from pfrl.models.zoo.imagenet_resnet import ImageNetResNet
from pfrl.models.zoo.mobilenet import MobileNetV1, MobileNetV2
from pfrl.models.zoo.mobilenet_v3 import MobileNetV3
from pfrl.models.zoo.squeezenet import SqueezeNet
from pfrl.models.zoo.vgg import VGG
from tests.support.macs_of import model_macs
from tests.support.marks import shown_elsewhere
from tests.support.tiny import shape

CIFAR = (32, 32, 3)
IMAGENET = (224, 224, 3)
FOR_IMAGENET = (
    "vgg16_bn resnet18 resnet34 resnet50 mobilenet_v1 mobilenet_v2 mobilenet_v3_small squeezenet "
    "googlenet efficientnet_lite0"
).split()


@functools.cache
def abstract(name, num_classes, image_shape):
    return nnx.eval_shape(lambda: zoo.MODELS[name](num_classes, image_shape, nnx.Rngs(0)))


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def names(model):
    return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(model))}


def output_shape(model, train, *image_shape):
    graph, state = nnx.split(model)

    def apply(state, x):
        merged = nnx.merge(graph, state)
        merged.train() if train else merged.eval()
        return merged(x)

    return jax.eval_shape(apply, state, shape(*image_shape)).shape


# num_params of torchvision's weights (GoogLeNet without its auxiliary heads); for MobileNet-v1,
# "4.2 million" in arXiv 1704.04861, the trainable ones of keras.applications.MobileNet; for
# EfficientNet-lite0, "4.7M" in its authors' table, timm's efficientnet_lite0.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("vgg16_bn", 138_365_992),
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("mobilenet_v1", 4_231_976),
        ("mobilenet_v2", 3_504_872),
        ("mobilenet_v3_small", 2_542_856),
        ("squeezenet", 1_235_496),
        ("googlenet", 6_624_904),
        ("efficientnet_lite0", 4_652_008),
    ],
)
def test_parameter_counts_are_the_published_ones(name, count):
    assert parameters(abstract(name, 1000, IMAGENET)) == count


# A multiply and an add are one. torchvision's table ("GFLOPS") counts what macs_of does, the
# products of convolutions and dense layers, and rounds to the digits that are given here.
# MobileNet-v1: 569 M "Mult-Adds" in table 4 of arXiv 1704.04861, and by hand in millions, with
# s pixels a side, 9*s*s*c for the depthwise and s*s*c*d for the 1x1 convolutions:
#   stem 112^2*27*32 = 10.838; 112^2*(9*32 + 32*64) = 29.303; 56^2*(9*64 + 64*128) = 27.496;
#   56^2*(9*128 + 128^2) = 54.993; 28^2*(9*128 + 128*256) = 26.593;
#   28^2*(9*256 + 256^2) = 53.187; 14^2*(9*256 + 256*512) = 26.142; 14^2*(9*512 + 512^2) = 52.283,
#   five times; 7^2*(9*512 + 512*1024) = 25.916; 7^2*(9*1024 + 1024^2) = 51.832; 1.024.
#   In sum 568.740.
# EfficientNet-lite0: 0.385 in the table of d-li14/efficientnet-lite.pytorch; for its authors'
# figure see the next test.
@pytest.mark.parametrize(
    ("name", "giga", "digits"),
    [
        ("vgg16_bn", 15.47, 2),
        ("resnet18", 1.814, 3),
        ("resnet34", 3.664, 3),
        ("resnet50", 4.089, 3),
        ("mobilenet_v1", 0.568740, 6),
        ("mobilenet_v2", 0.301, 3),
        ("mobilenet_v3_small", 0.057, 3),
        ("squeezenet", 0.349, 3),
        ("googlenet", 1.498, 3),
        ("efficientnet_lite0", 0.385, 3),
    ],
)
def test_macs_are_the_published_ones(name, giga, digits):
    macs = model_macs(abstract(name, 1000, IMAGENET), shape(1, *IMAGENET))
    assert round(macs / 1e9, digits) == giga


def test_macs_of_efficientnet_lite_by_its_authors():
    """407 M "MAdds" (tensorflow/tpu, efficientnet/lite): more than products are in them.

    How they were counted is not said. With three for every output of a
    convolution (BN multiplies and adds, then the activation) all five networks
    of that table come out within 0.4 %: lite0 405.4 of 407, lite1 630.6 of 631,
    lite2 898.4 of 899, lite3 1,440 of 1,440 and lite4 2,640 of 2,640. The
    products alone are 5.7 to 3.4 % less.
    """
    side, c_in = 112, 32
    products, outputs = side**2 * 27 * c_in, side**2 * c_in
    for kernel, expansion, channels, blocks, stride in B0:
        for i in range(blocks):
            hidden = expansion * c_in
            if expansion > 1:
                products += side**2 * c_in * hidden
                outputs += side**2 * hidden
            side = side // stride if i == 0 else side
            products += side**2 * hidden * (kernel**2 + channels)
            outputs += side**2 * (hidden + channels)
            c_in = channels
    products += side**2 * c_in * 1280 + 1280 * 1000
    outputs += side**2 * 1280
    model = abstract("efficientnet_lite0", 1000, IMAGENET)
    assert model_macs(model, shape(1, *IMAGENET)) == products == 385_187_552
    assert products + 3 * outputs == pytest.approx(407e6, rel=0.005)


# Depth 6n + 2 on CIFAR-10, by hand. Parameters: stem 9*3*16 + 32 = 464, linear 650; a block's
# two convolutions and BNs have 4,672 in stage 1, 18,560 in stage 2 and 73,984 in stage 3, but the
# first convolution of the latter two has half the inputs: -4,608 and -18,432. In sum
# 97,216n - 21,926. Option B: 16*32 + 64 and 32*64 + 128 more.
# MACs: stem 32^2*432, linear 640; 32^2*9*16^2 = 2,359,296 for every convolution in every stage,
# but half of it for the same two: 443,008 + (6n - 1) * 2,359,296. B: 16^2*512 + 8^2*2,048 more.
@pytest.mark.parametrize(
    ("depth", "params", "mega"),
    # Parameters: table 6 of arXiv 1512.03385. MACs of 56 and 110: arXiv 2002.10179.
    [
        (20, 0.27e6, None),
        (32, 0.46e6, None),
        pytest.param(44, 0.66e6, None, marks=pytest.mark.ci),
        (56, 0.85e6, 125.49),
        pytest.param(110, 1.7e6, 252.89, marks=pytest.mark.ci),
    ],
)
def test_cifar_resnets(depth, params, mega):
    n = (depth - 2) // 6
    model, other = (abstract(f"resnet{depth}{end}", 10, CIFAR) for end in ("", "b"))
    assert parameters(model) == 97_216 * n - 21_926
    assert parameters(other) == parameters(model) + 2_752
    # 1.7M has one digit after the point.
    assert parameters(model) == pytest.approx(params, abs=5_000 if params < 1e6 else 50_000)
    macs = model_macs(model, shape(1, *CIFAR))
    assert macs == 443_008 + (6 * n - 1) * 2_359_296
    assert model_macs(other, shape(1, *CIFAR)) == macs + 262_144
    if mega is not None:
        assert round(macs / 1e6, 2) == mega


def test_small_images_keep_their_resolution_in_the_stem():
    """ResNet-18: 7x7 at 32x32, stage 1 there, and the others at half of it each.

    Stem 32^2*147*64; four convolutions of 32^2*9*64^2; stages 2, 3 and 4
    16^2 * (9*64*128 + 3*9*128^2 + 64*128) each; linear 512*10.
    """
    macs = model_macs(abstract("resnet18", 10, CIFAR), shape(1, *CIFAR))
    assert macs == 9_633_792 + 4 * 37_748_736 + 3 * 134_217_728 + 5_120


@pytest.mark.parametrize(
    ("name", "image_shape", "features"),
    [
        # Five halvings of 32, and of 28: 14, 7, 4, 2, 1.
        ("vgg16_bn", CIFAR, (1, 1, 512)),
        ("vgg16_bn", (28, 28, 1), (1, 1, 512)),
        ("vgg16_bn", (256, 224, 3), (8, 7, 512)),
        # Four halvings without the stem's.
        ("mobilenet_v1", CIFAR, (2, 2, 1024)),
        ("mobilenet_v2", CIFAR, (2, 2, 1280)),
        ("mobilenet_v3_small", CIFAR, (2, 2, 576)),
        ("efficientnet_lite0", CIFAR, (2, 2, 1280)),
        # 3x3 poolings, the last window over the edge: 32, 16, 8.
        ("squeezenet", CIFAR, (8, 8, 512)),
        # 111, 55, 27, 13 and 7.
        ("squeezenet", IMAGENET, (13, 13, 512)),
        ("mobilenet_v2", IMAGENET, (7, 7, 1280)),
    ],
)
def test_resolution_of_the_features(name, image_shape, features):
    network: Any = abstract(name, 10, image_shape)
    assert output_shape(network.features, False, 2, *image_shape) == (2, *features)


@pytest.mark.parametrize("image_shape", shown_elsewhere([(1, 1, 1), (15, 21, 3)], [(15, 21, 3)]))
@pytest.mark.parametrize("name", FOR_IMAGENET)
def test_factories_suit_small_images(name, image_shape):
    assert output_shape(abstract(name, 7, image_shape), True, 2, *image_shape) == (2, 7)


# Widths a quarter or an eighth; the first kernel and the head show them.
NARROW = {
    "vgg": (
        lambda rngs: VGG(5, 2, (16, 24), 0.125, 24, rngs=rngs),
        {"features.0.kernel": (3, 3, 2, 8), "classifier.0.kernel": (64, 24)},
    ),
    "resnet": (
        lambda rngs: ImageNetResNet(5, 2, (1, 1, 2, 1), False, 0.125, rngs=rngs),
        {"conv1.kernel": (7, 7, 2, 8), "fc.kernel": (64, 5)},
    ),
    "resnet bottleneck": (
        lambda rngs: ImageNetResNet(5, 2, (1, 2, 1, 1), width=1 / 16, rngs=rngs),
        {"layer2.1.conv2.kernel": (3, 3, 8, 8), "fc.kernel": (128, 5)},
    ),
    "mobilenet_v1": (
        lambda rngs: MobileNetV1(5, 2, 0.25, rngs=rngs),
        {"features.0.0.kernel": (3, 3, 2, 8), "fc.kernel": (256, 5)},
    ),
    "mobilenet_v2": (
        lambda rngs: MobileNetV2(5, 2, 0.25, small_images=True, divisor=4, rngs=rngs),
        {"features.2.conv.0.0.kernel": (1, 1, 4, 24), "classifier.1.kernel": (1280, 5)},
    ),
    "mobilenet_v3": (
        lambda rngs: MobileNetV3(5, 2, 0.25, small_images=True, divisor=4, rngs=rngs),
        # 96 * 0.25 = 24 six times; 1024 / 4; a quarter of 4 is 1, of which 4 is the multiple.
        {"classifier.0.kernel": (144, 256), "features.1.block.1.fc1.kernel": (1, 1, 4, 4)},
    ),
    "squeezenet": (
        lambda rngs: SqueezeNet(5, 2, 0.125, small_images=True, rngs=rngs),
        {"features.3.squeeze.kernel": (1, 1, 8, 2), "classifier.1.kernel": (1, 1, 64, 5)},
    ),
    "googlenet": (
        lambda rngs: GoogLeNet(5, 2, 0.125, rngs=rngs),
        {"inception3a.branch3.0.conv.kernel": (1, 1, 24, 2), "fc.kernel": (128, 5)},
    ),
    "efficientnet": (
        lambda rngs: EfficientNetLite(5, 2, 0.25, divisor=4, rngs=rngs),
        {"features.0.0.kernel": (3, 3, 2, 8), "classifier.1.kernel": (320, 5)},
    ),
}


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NARROW)
def test_narrow_networks_run_on_small_images(name, train):
    constructor, kernels = NARROW[name]
    model = nnx.eval_shape(lambda: constructor(nnx.Rngs(0)))
    assert output_shape(model, train, 3, 16, 24, 2) == (3, 5)
    flat = nnx.to_flat_state(nnx.state(model))
    shapes = {".".join(map(str, path)): leaf.get_value().shape for path, leaf in flat}
    assert {kernel: shapes[kernel] for kernel in kernels} == kernels


@pytest.mark.parametrize(
    ("name", "some", "arrays"),
    # torchvision's names, "weight" in place of "kernel" and "scale"; numbers of its arrays, without
    # num_batches_tracked: 13 * 6 + 6 in VGG-16; 20, 36 and 53 convolutions with BN (five arrays)
    # and a linear layer (two) in the ResNets; 52 and a linear one in MobileNet-v2; 34 with BN, nine
    # squeezes of four arrays and two linear ones in v3-small; 26 with biases in SqueezeNet; 57
    # with BN and a linear one in GoogLeNet.
    [
        ("vgg16_bn", "features.0.bias features.41.var classifier.3.kernel classifier.6.bias", 84),
        ("resnet18", "bn1.mean layer2.0.downsample.1.scale layer4.1.conv2.kernel fc.bias", 102),
        ("resnet34", "layer3.5.bn2.bias", 182),
        ("resnet50", "layer1.0.downsample.0.kernel layer3.5.conv3.kernel", 267),
        ("mobilenet_v2", "features.1.conv.1.kernel features.17.conv.3.scale", 262),
        ("mobilenet_v3_small", "features.1.block.1.fc2.bias features.12.1.mean", 210),
        ("squeezenet", "features.12.expand3x3.bias classifier.1.kernel", 52),
        ("googlenet", "inception5b.branch4.1.bn.mean conv3.conv.kernel fc.kernel", 287),
    ],
)
def test_names_are_those_of_torchvision(name, some, arrays):
    found = {path for path in names(abstract(name, 1000, IMAGENET)) if ".rngs." not in path}
    assert found.issuperset(some.split())
    assert len(found) == arrays


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("vgg16_bn", [0.5, 0.5]),
        ("resnet50", []),
        ("mobilenet_v1", []),
        ("mobilenet_v2", [0.2]),
        ("mobilenet_v3_small", [0.2]),
        ("squeezenet", [0.5]),
        ("googlenet", [0.4]),
        ("efficientnet_lite0", [0.2]),
    ],
)
def test_dropout(name, rates):
    modules = nnx.iter_modules(abstract(name, 1000, IMAGENET))
    assert [module.rate for _, module in modules if isinstance(module, nnx.Dropout)] == rates


def test_the_zoo_has_all_networks():
    assert set(zoo.MODELS) >= {*FOR_IMAGENET, "lenet5", "plain20"}
    assert set(zoo.MODELS) >= {
        f"resnet{depth}{end}" for depth in (8, 20, 32, 44, 56, 110) for end in ("", "b")
    }
    assert set(zoo.MODELS) >= set(
        "densenet40 shufflenet_v2 convnext_tiny vit_tiny mixer_s16".split()
    )
    assert not set(zoo.MODELS) & set(zoo.DENSE_MODELS)
    assert zoo.MODELS["efficientnet_lite0"] is efficientnet.MODELS["efficientnet_lite0"]


def test_a_network_for_pixels_is_built_by_name_too():
    model = nnx.eval_shape(lambda: zoo.build("unet", 5, CIFAR, 0))
    assert output_shape(model, False, 2, *CIFAR) == (2, 32, 32, 5)
    with pytest.raises(zoo.ModelError, match=r"multiples of 16, got 30x32"):
        zoo.build("unet", 5, (32, 30, 3), 0)
