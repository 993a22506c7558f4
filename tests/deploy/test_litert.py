"""The LiteRT exporter: the same numbers as JAX, for any number of images, by few operators."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pfrl.deploy.litert.export import export_litert, to_litert
from pfrl.deploy.litert.flatbuffer import schema
from pfrl.deploy.operators.program import ExportError
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.deploy.runtimes.litert import LiteRTSession
from tests.support.exported import (
    CONV,
    DENSE,
    NETWORKS,
    convolve,
    randomised,
    resnet,
    squeeze_and_excite,
)
from tests.support.narrow import MODERN


def operators(content: bytes) -> Counter:
    """How many operators of each kind a file has."""
    words = schema()
    names = {number: name for name, number in vars(words.BuiltinOperator).items() if name.isupper()}
    model = words.ModelT.InitFromPackedBuf(content)
    codes = [names[code.builtinCode] for code in model.operatorCodes]
    return Counter(codes[each.opcodeIndex] for each in model.subgraphs[0].operators)


def agree(network, shape, path):
    session = LiteRTSession(export_litert(network, shape, path))
    for batch in (1, 7):
        images = np.random.default_rng(batch).normal(0, 1, (batch, *shape)).astype(np.float32)
        expected = np.asarray(jax.jit(lambda x: network(x))(images))
        np.testing.assert_allclose(session.logits(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_runtime_and_jax_agree(name, tmp_path):
    network, shape = NETWORKS[name]
    agree(network, shape, tmp_path / "m.tflite")


def test_resnet20_has_nothing_but_what_it_needs():
    assert operators(to_litert(resnet(20, "A", 1, width=2), (28, 28, 1))) == {
        "CONV_2D": 21,  # 19 layers, and two shortcuts as 1x1 convolutions of zeros and ones
        "PAD": 2,  # a stride of 2 after one pixel on each side, which SAME is not
        "ADD": 9,
        "MEAN": 1,
        "RESHAPE": 1,
        "FULLY_CONNECTED": 1,
    }


def test_activations_are_part_of_what_makes_their_input():
    assert operators(to_litert(squeeze_and_excite, (6, 6, 3))) == {
        "CONV_2D": 3,
        "DEPTHWISE_CONV_2D": 1,
        "MEAN": 2,
        "LOGISTIC": 1,
        "MUL": 1,
        "RESHAPE": 1,
        "FULLY_CONNECTED": 1,
    }


def test_a_transformer_has_operators_of_its_kind():
    make, shape = MODERN["vit_tiny"]
    found = operators(to_litert(randomised(lambda: make(nnx.Rngs(0))), shape))
    assert found["SOFTMAX"] == found["GELU"] == 2 and found["BATCH_MATMUL"] == 4
    assert not {"EXP", "REDUCE_MAX"} & found.keys()


def swish(x):
    x = convolve(x, CONV)
    return jax.nn.hard_swish(x).mean((1, 2)) @ DENSE


def almost_swish(x):
    x = convolve(x, CONV)
    return (x * (jnp.clip(x + 2, 0, 6) / 6)).mean((1, 2)) @ DENSE


@pytest.mark.parametrize(("network", "count"), [(swish, 1), (almost_swish, 0)])
def test_one_operator_stands_for_what_it_is_and_for_nothing_else(network, count, tmp_path):
    assert operators(to_litert(network, (4, 4, 3)))["HARD_SWISH"] == count
    agree(network, (4, 4, 3), tmp_path / "m.tflite")


def erf(x):
    return jax.lax.erf(x * np.float32(np.sqrt(0.5)))


GELUS = {
    "flax": lambda x: jax.nn.gelu(x, approximate=False),
    "half of x": lambda x: (0.5 * x) * (1 + erf(x)),
    "half of the gate": lambda x: x * (0.5 * (1 + erf(x))),
    "half of the product": lambda x: 0.5 * (x * (1 + erf(x))),
    "quotient": lambda x: x * (1 + jax.lax.erf(x / np.float32(np.sqrt(2)))) / 2,
}


@pytest.mark.parametrize("name", GELUS)
def test_every_way_to_write_a_gelu_is_one_operator(name, tmp_path):
    """LiteRT has no erf: what is not found has no file for phones."""

    def network(x):
        return GELUS[name](convolve(x, CONV)).mean((1, 2)) @ DENSE

    assert operators(to_litert(network, (4, 4, 3)))["GELU"] == 1
    agree(network, (4, 4, 3), tmp_path / "m.tflite")


@pytest.mark.parametrize(
    "almost",
    [
        lambda x: x * (0.6 * (1 + erf(x))),
        lambda x: x * (0.5 * (1.1 + erf(x))),
        lambda x: (x + 1) * (0.5 * (1 + erf(x))),
        lambda x: x * (0.5 * (1 + erf(1.1 * x))),
    ],
)
def test_what_is_almost_a_gelu_is_none(almost):
    def network(x):
        return almost(convolve(x, CONV)).mean((1, 2)) @ DENSE

    with pytest.raises(ExportError, match="Erf has no counterpart in LiteRT"):
        to_litert(network, (4, 4, 3))


@pytest.mark.parametrize(
    ("pool", "pads", "operator"),
    [
        (nnx.max_pool, ((0, 1), (0, 1)), {"MAX_POOL_2D"}),  # SAME
        (nnx.max_pool, ((1, 1), (1, 1)), {"PADV2", "MAX_POOL_2D"}),
        (nnx.avg_pool, ((0, 1), (0, 1)), {"PAD", "AVERAGE_POOL_2D"}),  # zeros count
        (nnx.avg_pool, "VALID", {"AVERAGE_POOL_2D"}),
    ],
)
def test_pools_pad_as_in_jax(pool, pads, operator, tmp_path):
    def network(x):
        return pool(x - 2.0, (3, 3), (2, 2), pads)

    assert operator <= operators(to_litert(network, (6, 6, 3))).keys()
    agree(network, (6, 6, 3), tmp_path / "m.tflite")


def test_what_litert_lacks_is_named(tmp_path):
    def one_dimensional(x):
        return jax.lax.conv_general_dilated(
            x, jnp.asarray(CONV[0]), (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
        )

    with pytest.raises(ExportError, match="Conv for images only, this one has 1 axes"):
        export_litert(one_dimensional, (4, 3), tmp_path / "m.tflite")
    with pytest.raises(ExportError, match="'sort' has no counterpart"):
        export_litert(lambda x: jnp.sort(x), (4,), tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_the_runtime_judges_as_jax_does():
    network = resnet(8, "A", 3)
    images = np.random.default_rng(0).normal(size=(60, 8, 8, 3)).astype(np.float32)
    found = RUNTIMES["litert"].judge(network, (8, 8, 3))(images)
    np.testing.assert_allclose(found, network(images), rtol=1e-4, atol=1e-4)
