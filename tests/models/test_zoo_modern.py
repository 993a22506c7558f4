"""DenseNet, ShuffleNet-v2, ConvNeXt, U-Net, ViT and MLP-Mixer against their published numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.models.zoo import convnext, densenet, mixer, shufflenet, unet, vit
from pfrl.models.zoo.convnext import ConvNeXt, ConvNeXtBlock
from pfrl.models.zoo.densenet import DenseNet
from pfrl.models.zoo.mixer import MlpMixer
from pfrl.models.zoo.patches import choose_patch
from pfrl.models.zoo.shufflenet import ShuffleNetV2, channel_shuffle
from pfrl.models.zoo.unet import UNet
from pfrl.models.zoo.vit import FusedAttention, VisionTransformer
from tests.support.macs_of import macs_of, model_macs
from tests.support.tiny import made, shape
from tests.support.user_model import TiedLanguageModel, UserNet

MODELS = {
    **densenet.MODELS,
    **shufflenet.MODELS,
    **convnext.MODELS,
    **unet.MODELS,
    **vit.MODELS,
    **mixer.MODELS,
}
CIFAR = (32, 32, 3)
IMAGENET = (224, 224, 3)


@functools.cache
def abstract(name, num_classes, image_shape):
    return nnx.eval_shape(lambda: MODELS[name](num_classes, image_shape, nnx.Rngs(0)))


def parameters(model):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def output_shape(model, train, *inputs):
    """The shape that a network, of which only shapes are known, gives in one of its modes."""
    graph, state = nnx.split(model)

    def apply(state, *inputs):
        merged = nnx.merge(graph, state)
        merged.train() if train else merged.eval()
        return merged(*inputs)

    return jax.eval_shape(apply, state, *inputs).shape


# torchvision (num_params of its weights): ShuffleNet_V2_X1_0, ConvNeXt_Tiny. timm:
# deit_tiny_patch16_224, mixer_s16_224. With ImageNet's 1000 classes at 224 pixels.
#
# DenseNet-40-12 ("1.0M" in table 2 of arXiv 1608.06993), 12 layers a block:
#   stem 9*3*16 = 432; a layer on c channels has 2c + 9*12*c = 110c parameters.
#   Block 1, c = 16, 28, ..., 148: 110 * 984 = 108,240; transition 2*160 + 160^2 = 25,920.
#   Block 2, c = 160, ..., 292: 110 * 2,712 = 298,320; transition 2*304 + 304^2 = 93,024.
#   Block 3, c = 304, ..., 436: 110 * 4,440 = 488,400; BN 2*448 = 896; linear 4,490.
#
# U-Net with 3 channels in: a double convolution from a to b has 9ab + 9b^2 + 4b, a transposed one
# 2b^2 + b/2 from b to b/2, the last one 64K + K for K classes.
#   Encoder: 38,848 + 221,696 + 885,760 + 3,540,992 + 14,159,872 = 18,847,168.
#   Transposed: 2,097,664 + 524,544 + 131,200 + 32,832 = 2,786,240.
#   Decoder, from 2b to b: 7,079,936 + 1,770,496 + 442,880 + 110,848 = 9,404,160.
#   All but the last: 31,037,568. With K = 1 31,037,633, as in the padded U-Nets with BN in use.
#
# Mixer-S/16: stem 768*512 + 512 = 393,728; a block 2 * 1,024 (LayerNorms) + 196*256 + 256 +
#   256*196 + 196 + 512*2048 + 2048 + 2048*512 + 512 = 2,202,564; LayerNorm 1,024; head 513,000.
@pytest.mark.parametrize(
    ("name", "num_classes", "image_shape", "count"),
    [
        ("shufflenet_v2", 1000, IMAGENET, 2_278_604),
        ("convnext_tiny", 1000, IMAGENET, 28_589_128),
        ("vit_tiny", 1000, IMAGENET, 5_717_416),
        ("mixer_s16", 1000, IMAGENET, 18_528_264),
        ("densenet40", 10, CIFAR, 1_019_722),
        ("unet", 1, (256, 256, 3), 31_037_633),
        ("unet", 21, CIFAR, 31_037_568 + 21 * 65),
    ],
)
def test_parameter_counts_are_the_published_ones(name, num_classes, image_shape, count):
    assert parameters(abstract(name, num_classes, image_shape)) == count


def test_fused_attention_has_as_many_parameters():
    fused = nnx.eval_shape(lambda: VisionTransformer(1000, fused_qkv=True, rngs=nnx.Rngs(0)))
    assert parameters(fused) == 5_717_416
    assert model_macs(fused, shape(1, *IMAGENET)) == 1_253_683_200


# Published figures in MACs, with the convention of each:
#   torchvision ("GFLOPS" in its table, which are MACs): convolutions and matrix products.
#   DeiT-tiny: 1.258 G takes fvcore's rule of 5 for every element of a LayerNorm, which is
#     25 * 197 * 192 * 5 = 4,728,000; the other 1,253,683,200 are products:
#     patches 196*768*192, head 192*1000, and in every one of 12 blocks 197 * 12 * 192^2 for the
#     linear layers and 2 * 197^2 * 192 for the two products of the attention.
#   Mixer-S/16: timm; 196*768*512 + 8 * (2*196*256*512 + 2*196*512*2048) + 512*1000.
#   DenseNet-40-12, by hand: 1024 * (432 + 108*984 + 160^2) + 256 * (108*2,712 + 304^2) +
#     64 * 108*4,440 + 4,480.
#   U-Net, by hand, a pixel: 38,592 at full resolution, 4 * 55,296 below it, 4 * 8,192 for the
#     transposed convolutions, 4 * 110,592 in the decoder and 64 a class.
@pytest.mark.parametrize(
    ("name", "num_classes", "image_shape", "published", "exact"),
    [
        ("shufflenet_v2", 1000, IMAGENET, 0.145e9, None),
        ("convnext_tiny", 1000, IMAGENET, 4.456e9, None),
        ("vit_tiny", 1000, IMAGENET, 1.258e9, 1_253_683_200),
        ("mixer_s16", 1000, IMAGENET, 3.78e9, 3_776_958_464),
        ("densenet40", 10, CIFAR, None, 264_812_928),
        ("unet", 2, (256, 256, 3), None, 735_040 * 256**2),
    ],
)
def test_macs_are_the_published_ones(name, num_classes, image_shape, published, exact):
    macs = model_macs(abstract(name, num_classes, image_shape), shape(1, *image_shape))
    if published is not None:
        assert macs == pytest.approx(published, rel=0.005)
    if exact is not None:
        assert macs == exact


def test_densenet_with_a_wider_stem_has_the_macs_of_the_pruning_papers():
    """282.92 M and, without BN, 1.04 M parameters (HRank, arXiv 2002.10179)."""
    model = nnx.eval_shape(lambda: DenseNet(10, width=24, rngs=nnx.Rngs(0)))
    assert model_macs(model, shape(1, *CIFAR)) == pytest.approx(282.92e6, rel=1e-4)
    kernels = sum(
        leaf.get_value().size
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
        if path[-1] == "kernel"
    )
    assert round(kernels / 1e6, 2) == 1.04


NARROW = {
    "densenet": (lambda rngs: DenseNet(5, 1, 10, 3, 4, rngs=rngs), (8, 12, 1), (5,)),
    "shufflenet": (
        lambda rngs: ShuffleNetV2(5, 3, (4, 8, 12, 16, 20), (2, 2, 1), rngs=rngs),
        CIFAR,
        (5,),
    ),
    "convnext": (
        lambda rngs: ConvNeXt(5, 3, (4, 8, 12), (1, 2, 1), 2, drop_path=0.2, rngs=rngs),
        (8, 12, 3),
        (5,),
    ),
    "unet": (lambda rngs: UNet(5, 2, (4, 6, 8), rngs=rngs), (8, 12, 2), (8, 12, 5)),
    "vit": (
        lambda rngs: VisionTransformer(5, 3, (8, 12), 4, 12, 2, 3, 2, 0.1, rngs=rngs),
        (8, 12, 3),
        (5,),
    ),
    "vit fused": (
        lambda rngs: VisionTransformer(5, 3, (8, 12), 4, 12, 2, 3, 2, 0.1, True, rngs=rngs),
        (8, 12, 3),
        (5,),
    ),
    "mixer": (lambda rngs: MlpMixer(5, 3, (8, 12), 4, 8, 2, 6, 10, rngs=rngs), (8, 12, 3), (5,)),
    "user": (lambda rngs: UserNet(rngs=rngs), (8, 8, 3), (5,)),
}


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", NARROW)
def test_narrow_networks_run_on_small_images(name, train):
    constructor, image_shape, expected = NARROW[name]
    model = nnx.eval_shape(lambda: constructor(nnx.Rngs(0)))
    assert output_shape(model, train, shape(3, *image_shape)) == (3, *expected)


@pytest.mark.parametrize(
    ("name", "image_shape"),
    [
        *((name, CIFAR) for name in MODELS),
        ("densenet40", (4, 5, 1)),
        ("shufflenet_v2", (8, 8, 1)),
        ("convnext_tiny", (28, 28, 1)),
        ("convnext_tiny", (8, 9, 1)),
        ("mixer_tiny", (28, 28, 1)),
    ],
)
def test_factories_suit_small_images(name, image_shape):
    expected = (2, *image_shape[:2], 7) if name == "unet" else (2, 7)
    assert output_shape(abstract(name, 7, image_shape), True, shape(2, *image_shape)) == expected


def test_patches_are_as_large_as_the_image_allows():
    sizes = {(224, 224): 16, (112, 224): 16, (96, 96): 8, (32, 32): 4, (28, 28): 4, (15, 21): 1}
    assert {size: choose_patch(size) for size in sizes} == sizes


@pytest.mark.parametrize(
    ("constructor", "sentence"),
    [
        (lambda rngs: DenseNet(10, depth=41, rngs=rngs), r"3n \+ 4 \(7, 10, 13, ...\), got 41"),
        (
            lambda rngs: MODELS["densenet40"](10, (3, 8, 1), rngs),
            "4x4 pixels or more, got 8x3",
        ),
        (
            lambda rngs: ShuffleNetV2(10, widths=(4, 8, 9, 12, 16), rngs=rngs),
            r"expected even widths, got \[8, 9, 12\]",
        ),
        (lambda rngs: MODELS["convnext_tiny"](10, (8, 7, 3), rngs), "8x8 pixels.*got 7x8"),
        (
            lambda rngs: ConvNeXt(10, depths=(1, 1, 1, 1), rngs=rngs)(jnp.zeros((1, 31, 40, 3))),
            "32x32 pixels or more here, got 40x31; choose smaller patches",
        ),
        (
            lambda rngs: UNet(2, 1, (4, 4, 4), rngs=rngs)(jnp.zeros((1, 8, 10, 1))),
            "halves the image 2 times: expected sides that are multiples of 4, got 10x8",
        ),
        (
            lambda rngs: MODELS["unet"](2, (28, 32, 1), rngs),
            "multiples of 16, got 32x28; resize or pad the images",
        ),
        (
            lambda rngs: VisionTransformer(10, image_size=(32, 24), rngs=rngs),
            "patches of 16x16 pixels do not fill images of 24x32",
        ),
        (
            lambda rngs: VisionTransformer(10, width=100, rngs=rngs),
            "3 heads do not divide a width of 100",
        ),
        (
            lambda rngs: MlpMixer(10, image_size=(32, 40), rngs=rngs),
            "patches of 16x16 pixels do not fill images of 40x32",
        ),
    ],
)
def test_sizes_that_do_not_fit(constructor, sentence):
    with pytest.raises(ValueError, match=sentence):
        jax.eval_shape(lambda: constructor(nnx.Rngs(0)))


def test_channel_shuffle_interleaves():
    x = jnp.arange(6.0).reshape(1, 1, 1, 6)
    assert channel_shuffle(x, 2).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert channel_shuffle(x, 3).ravel().tolist() == [0, 2, 4, 1, 3, 5]


def test_fused_attention_equals_multi_head_attention():
    """With the same weights: ``qkv`` is ordered three, head, channel; two heads of four."""
    fused = made(lambda rngs: FusedAttention(8, 2, rngs=rngs))
    plain = made(lambda rngs: nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs))
    kernels = fused.qkv.kernel[...].reshape(8, 3, 2, 4)
    biases = fused.qkv.bias[...].reshape(3, 2, 4)
    for i, part in enumerate((plain.query, plain.key, plain.value)):
        part.kernel[...], part.bias[...] = kernels[:, i], biases[i]
    plain.out.kernel[...] = fused.proj.kernel[...].reshape(2, 4, 8)
    plain.out.bias[...] = fused.proj.bias[...]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 8)), jnp.float32)
    results = [nnx.jit(lambda m, x: m(x))(model, x) for model in (fused, plain)]
    assert np.std(results[0]) > 0.1
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def test_stochastic_depth_leaves_out_the_branch_of_whole_images():
    """In training an image keeps x or gets x plus the branch over 1 - rate; all get it after."""
    block = made(lambda rngs: ConvNeXtBlock(4, 0.75, rngs=rngs))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(32, 2, 2, 4)), jnp.float32)

    @nnx.jit
    def branches(block, x):
        block.drop_path.rngs = nnx.Rngs(0).dropout
        block.train()
        trained = block(x) - x
        block.eval()
        return trained, block(x) - x

    trained, branch = map(np.asarray, branches(block, x))
    dropped = np.array([np.abs(image).max() < 1e-5 for image in trained])
    # 32 draws with probability 3/4: 24 on average, standard deviation 2.4.
    assert 14 < dropped.sum() < 32
    np.testing.assert_allclose(trained[~dropped], 4 * branch[~dropped], rtol=1e-3, atol=1e-4)


def test_users_networks():
    # stem 336, norm 24, branches 52 + 216 + 16 + 52, SE 68 + 80, refine 2,320 (once), left 170,
    # right 10 (its kernel is left's), bottleneck 60 + 6 + 10, out 55.
    user = nnx.eval_shape(lambda: UserNet(rngs=nnx.Rngs(0)))
    assert parameters(user) == 3_475
    # stem 324*64, branches (48 + 216 + 48) * 64, SE 128, refine 2,304 * (64 + 16), left and
    # right 160 each, bottleneck 60 both ways, out 50.
    assert model_macs(user, shape(1, 8, 8, 3)) == 225_642
    # embed 88 (the head is the same), context 64, up 144, down 136, norm 8.
    words = nnx.eval_shape(lambda: TiedLanguageModel(rngs=nnx.Rngs(0)))
    assert parameters(words) == 440
    tokens = jax.ShapeDtypeStruct((2, 7), jnp.int32)
    assert output_shape(words, True, tokens) == (2, 7, 11)


def test_the_counter_of_macs():
    """Shapes by hand: strided, grouped and transposed convolutions, batched and nested products."""
    image = shape(2, 8, 8, 4)

    def conv(kernel, groups=1, **how):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lambda x, w: jax.lax.conv_general_dilated(
            x, w, dimension_numbers=numbers, feature_group_count=groups, **how
        ), shape(*kernel)

    strided, kernel = conv((3, 3, 4, 6), window_strides=(2, 2), padding="SAME")
    assert macs_of(strided, image, kernel) == 2 * 4 * 4 * 6 * 9 * 4
    grouped, kernel = conv((3, 3, 2, 6), 2, window_strides=(1, 1), padding="SAME")
    assert macs_of(grouped, image, kernel) == 2 * 8 * 8 * 6 * 9 * 2

    def transposed(x, w):
        return jax.lax.conv_transpose(x, w, (2, 2), "VALID")

    assert macs_of(transposed, image, shape(2, 2, 4, 6)) == 2 * 8 * 8 * 4 * 4 * 6
    assert macs_of(jnp.matmul, shape(5, 2, 3), shape(5, 3, 7)) == 5 * 2 * 3 * 7

    def nested(x, w):
        def step(carry, _):
            return jax.nn.relu(jax.jit(jnp.matmul)(carry, w)), None

        x, _ = jax.lax.scan(step, x, None, length=3)
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ w @ w, lambda x: x @ w, x)

    assert macs_of(nested, shape(2, 4), shape(4, 4)) == (3 + 2) * 2 * 4 * 4
