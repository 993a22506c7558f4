"""Trainings with products of bfloat16: right on a CPU, where they pay, chosen by the machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from pfrl.cost import CostModel
from pfrl.cpu import convolution, fast, precision
from pfrl.cpu.precision import at_precision, fastest
from pfrl.cpu.processor import instruction_set, multiplies_bfloat16
from pfrl.evaluation import short_training
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.graph import from_nnx, split_variables, trace
from pfrl.models.catalogue import build
from pfrl.training import fit as training
from pfrl.training.config import FitConfig
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import TwoConvs, made, resnet8, shape, stripes
from tests.training.test_fast import CASES, CHANNELS_LAST, SAME, arrays
from tests.training.test_training import SHORT, trained


def results(case, x, kernel):
    """The convolution of a case, and its gradients under a cotangent that hides no digits."""
    keywords = {"window_strides": (1, 1), "padding": SAME, **case[2]}
    keywords.setdefault("dimension_numbers", CHANNELS_LAST)
    y, back = jax.vjp(lambda *a: lax.conv_general_dilated(*a, **keywords), x, kernel)
    return y, back(jnp.tanh(y / 50))


@pytest.fixture(scope="module")
def both():
    """Results of all cases by name, ``(by oneDNN with bfloat16, plain)``: one compilation each."""
    inputs = {name: arrays(*case[:2]) for name, case in CASES.items()}

    def everything(inputs):
        return {name: results(CASES[name], *given) for name, given in inputs.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "WORTH_ROUNDING", 0)
        patch.setattr(convolution, "worth_parts", lambda: 0)
        rounded = fast(at_precision(everything, "bfloat16"), threads=2)
        assert jax.jit(rounded).lower(inputs).as_text().count("custom_call @pfrl_convolution") > 70
        return jax.jit(rounded)(inputs), jax.jit(everything)(inputs)


@pytest.mark.parametrize("name", CASES)
def test_only_digits_are_lost(name, both):
    """Eight bits of every factor and of the result remain, whatever the geometry."""
    found, expected = (jax.tree.leaves(every[name]) for every in both)
    for one, other in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, np.float32)
        scale = float(jnp.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=0.02, atol=0.02 * scale)
        assert np.any(np.asarray(one) != np.asarray(other))


# Of 64 images of 32x32 a gradient of 16 channels has 151 million products.
@pytest.mark.parametrize(("amx", "small"), [(True, 16), (False, 8)])
def test_large_gradients_are_shared_out_and_small_ones_are_not(monkeypatch, amx, small):
    """By threads of ours: those of oneDNN would wait for each other, spinning."""
    monkeypatch.setattr(convolution, "has_matrix_units", lambda: amx)
    seen = []
    monkeypatch.setattr(convolution, "of_kernel", lambda *a: seen.append(a[-1]) or list)
    monkeypatch.setattr(convolution, "on_threads", lambda function, threads: seen.append(threads))

    def gradient(channels, kind):
        x = jax.ShapeDtypeStruct((64, 32, 32, channels), kind)
        kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), kind)
        keywords: Any = {"dimension_numbers": CHANNELS_LAST, "padding": SAME}

        def change(x, kernel):
            y, back = jax.vjp(lambda k: lax.conv_general_dilated(x, k, (1, 1), **keywords), kernel)
            return back(y)

        equations = reversed(jax.make_jaxpr(change)(x, kernel).eqns)
        last = next(each for each in equations if each.primitive is convolution.XLA)
        left, right = (variable.aval for variable in last.invars)
        convolution.chosen(left, right, last.outvars[0].aval, threads=2, **last.params)

    large = 64 if amx else 16
    for channels, kind in ((large, jnp.bfloat16), (small, jnp.bfloat16), (large, jnp.float32)):
        gradient(channels, kind)
    assert seen == [2, 1, 1, 1, 1, 2]


def rounded_convolutions(network, image=(32, 32, 3)):
    """How many of the convolutions of a train step have operands of bfloat16, and how many none."""
    source = from_nnx(build(network, 10, image, 0))
    optimizer = sgd(0.1, 0.0)
    parameters, statistics = split_variables(source)
    state = TrainState(parameters, statistics, optimizer.init(parameters))
    step = at_precision(make_train_step(source.apply, optimizer), "bfloat16")
    x, y = np.zeros((8, *image), np.float32), np.zeros(8, np.int32)
    text = jax.jit(step).lower(state, x, y, None).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    return sum("bf16" in line for line in lines), sum("bf16" not in line for line in lines)


def test_small_and_depthwise_convolutions_keep_their_digits():
    """One by one and depthwise kernels move more than they multiply."""
    rounded, whole = rounded_convolutions("mobilenet_v2")
    assert 0 < rounded < whole
    # Of a ResNet all but what the images' three channels and the shortcuts have.
    rounded, whole = rounded_convolutions("resnet20")
    assert rounded > 10 * whole


def test_products_of_matrices_are_left_to_the_cpu():
    """XLA's products of bfloat16 on a CPU do not run at every size."""
    x, w = np.ones((64, 256), np.float32), np.ones((256, 512), np.float32)
    text = jax.jit(at_precision(lambda x, w: x @ w, "bfloat16")).lower(x, w).as_text()
    assert "bf16" not in text


@pytest.mark.parametrize(
    ("backend", "amx", "expected"),
    [("cpu", True, "bfloat16"), ("cpu", False, None), ("gpu", True, None), ("tpu", False, None)],
)
def test_the_machine_decides_which_precision_is_fastest(backend, amx, expected, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda: amx)
    assert fastest() == expected


AMX = "GenuineIntel flags : fpu avx2 avx512_bf16 amx_bf16"
ZEN4 = "AuthenticAMD flags : fpu avx2 avx512_bf16"


@pytest.mark.parametrize(
    ("words", "known", "fast"),
    [
        (AMX, "avx2 avx512_bf16 amx_bf16", True),
        (ZEN4, "avx2 avx512_bf16", True),
        ("GenuineIntel flags : fpu avx2 avx512_bf16", "avx2 avx512_bf16", False),
        ("AuthenticAMD flags : fpu avx2", "avx2", False),
    ],
)
def test_the_processor_says_what_it_has(words, known, fast, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: words)
    assert instruction_set() == known
    assert multiplies_bfloat16() == fast


@pytest.mark.parametrize(
    ("words", "limit", "fast"),
    [
        (AMX, "", True),
        (AMX, "default", True),
        (AMX, "AVX10_1_512_AMX", True),
        (AMX, "AVX2", False),
        (AMX, "avx512_core", False),
        (AMX, "avx512_core_bf16", False),
        (ZEN4, "avx512_core_bf16", True),
        (ZEN4, "avx512_core_amx", True),
        (ZEN4, "avx512_core_vnni", False),
    ],
)
def test_onednn_can_be_kept_from_it(words, limit, fast, monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: words)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert multiplies_bfloat16() == fast


@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16"])
def test_a_training_has_the_precision_that_was_asked_for(asked, monkeypatch):
    """auto is what the machine is fastest with."""
    known = []

    def noted(function, given):
        known.append(given)
        return at_precision(function, given)

    monkeypatch.setattr(training, "at_precision", noted)
    trained(replace(SHORT, precision=asked))
    assert known == [asked]


@pytest.mark.parametrize("fast", [None, "bfloat16"])
def test_by_itself_a_product_is_what_the_machine_is_fastest_with(fast, monkeypatch):
    monkeypatch.setattr(precision, "fastest", lambda: fast)
    monkeypatch.setattr(precision, "WORTH_ROUNDING", 0)
    x = np.full((8, 8), 1 + 2.0**-9, np.float32)  # one digit more than bfloat16 has
    found = np.asarray(jax.jit(at_precision(lambda x: x @ x, "auto"))(x))
    assert np.all(found == 8) if fast else np.all(found > 8)


def test_a_training_with_rounded_products_learns_as_one_without(monkeypatch):
    monkeypatch.setattr(precision, "WORTH_ROUNDING", 0)
    data, source = stripes(train=64, search=32, crop=0), from_nnx(made(resnet8))
    variables = dict(source.variables)

    def quality(asked):
        config = FitConfig(epochs=8, batch=16, learning_rate=0.05, precision=asked)
        found = training.fit(source.apply, variables, source.trainable, data, config)
        return found, training.mean_quality(
            lambda x: source.apply(found, x, False)[0], data, data.search
        )

    (whole, expected), (rounded, found) = quality("float32"), quality("bfloat16")
    assert expected >= 0.9 and found >= 0.9
    assert any(np.any(whole[name] != rounded[name]) for name in whole)


@pytest.mark.parametrize(
    ("asked", "quantized", "expected"),
    [
        ("auto", False, ["bfloat16", "bfloat16", "float32"]),
        ("auto", True, ["float32"] * 3),
        ("float32", False, ["float32"] * 3),
        ("bfloat16", False, ["bfloat16"] * 3),
    ],
)
def test_an_evaluation_rounds_the_products_of_its_training_alone(
    asked, quantized, expected, monkeypatch
):
    """Statistics and steps are rounded, and what is judged is not; of integers nothing is."""
    known = []

    def noted(function, given):
        known.append(given)
        return function

    monkeypatch.setattr(short_training, "at_precision", noted)
    monkeypatch.setattr(short_training, "fastest", lambda: "bfloat16")
    graph = trace(made(TwoConvs), shape(2, 8, 8, 1))
    config = EpisodeConfig(
        steps=1, batch=8, statistics_images=8, search_images=8, validation="xla", precision=asked
    )
    NetworkEvaluator(graph, stripes(), CostModel(graph), config, 3, quantized)
    assert known == expected
