"""Convolutions by oneDNN: equal to XLA's, used where they apply, never seen by who traces."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import pfrl
from pfrl.cpu import backend, fast
from pfrl.cpu.foreign import register
from pfrl.graph import from_nnx, split_variables
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import Branches, made, resnet8, shape

CHANNELS_LAST = ("NHWC", "HWIO", "NHWC")
SAME, VALID = ((1, 1), (1, 1)), ((0, 0), (0, 0))

# (N, H, W, C), (h, w, C / groups, O), keywords of lax.conv_general_dilated.
CASES = {
    "few channels": ((2, 8, 8, 16), (3, 3, 16, 16), {}),
    "eight channels": ((2, 6, 8, 8), (3, 3, 8, 8), {}),
    "an image of three channels": ((2, 8, 8, 3), (3, 3, 3, 8), {}),
    "a width that nothing divides": ((2, 9, 9, 5), (3, 3, 5, 6), {}),
    "few channels, strided": ((2, 8, 12, 5), (3, 3, 5, 7), {"window_strides": (2, 2)}),
    "uneven strides and padding": (
        (2, 9, 12, 6),
        (2, 5, 6, 4),
        {"window_strides": (1, 2), "padding": ((0, 1), (3, 2))},
    ),
    "many channels": ((2, 6, 6, 20), (3, 3, 20, 24), {}),
    "many channels, strided": ((2, 8, 8, 20), (3, 3, 20, 24), {"window_strides": (2, 2)}),
    "a result of odd size, strided": ((2, 7, 7, 20), (3, 3, 20, 24), {"window_strides": (2, 2)}),
    "three by three, strides of three": (
        (2, 9, 9, 4),
        (2, 2, 4, 5),
        {"window_strides": (3, 3), "padding": VALID},
    ),
    "one by one": ((2, 5, 5, 9), (1, 1, 9, 7), {"padding": VALID}),
    "one by one, strided": (
        (2, 6, 7, 9),
        (1, 1, 9, 7),
        {"padding": VALID, "window_strides": (2, 2)},
    ),
    "one by one, padded": ((2, 5, 5, 3), (1, 1, 3, 4), {}),
    "one row of taps": ((2, 5, 8, 6), (1, 3, 6, 6), {"padding": ((0, 0), (1, 1))}),
    "depthwise": ((2, 6, 6, 10), (3, 3, 1, 10), {"feature_group_count": 10}),
    "depthwise, strided": (
        (2, 8, 8, 10),
        (3, 3, 1, 10),
        {"feature_group_count": 10, "window_strides": (2, 2)},
    ),
    "one channel to one": ((2, 6, 6, 1), (3, 3, 1, 1), {}),
    "two a channel": ((2, 6, 6, 4), (3, 3, 1, 8), {"feature_group_count": 4}),
    "groups": ((2, 6, 6, 8), (3, 3, 4, 6), {"feature_group_count": 2}),
    "groups, strided": (
        (2, 6, 6, 8),
        (3, 3, 4, 6),
        {"feature_group_count": 2, "window_strides": (2, 2)},
    ),
    "dilated kernel": ((2, 8, 8, 9), (3, 3, 9, 9), {"rhs_dilation": (2, 2)}),
    "dilated image": ((2, 4, 4, 9), (4, 4, 9, 5), {"lhs_dilation": (2, 2)}),
    "cropped": ((2, 8, 8, 6), (3, 3, 6, 6), {"padding": ((-1, 0), (1, -2))}),
}
OTHER_AXES = {
    "channels first": (
        (2, 8, 6, 6),
        (8, 8, 3, 3),
        {"dimension_numbers": ("NCHW", "OIHW", "NCHW")},
    ),
    "one dimension": (
        (2, 9, 8),
        (3, 8, 8),
        {"dimension_numbers": ("NWC", "WIO", "NWC"), "padding": ((1, 1),), "window_strides": (2,)},
    ),
    "three dimensions": (
        (1, 4, 5, 6, 2),
        (3, 3, 2, 2, 3),
        {
            "dimension_numbers": ("NDHWC", "DHWIO", "NDHWC"),
            "padding": ((1, 1), (0, 2), (1, 0)),
            "window_strides": (1, 2, 1),
        },
    ),
}
CASES |= OTHER_AXES


def arrays(x_shape, kernel_shape, dtype: type[np.floating] = np.float32):
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal(x_shape).astype(dtype),
        rng.standard_normal(kernel_shape).astype(dtype),
    )


def results_of(keywords):
    """``(x, kernel) -> (y, gradients of x and kernel)``, those of a function that is not linear."""
    keywords = {"window_strides": (1, 1), "padding": SAME, **keywords}
    keywords.setdefault("dimension_numbers", CHANNELS_LAST)

    def results(x, kernel):
        y, back = jax.vjp(lambda *a: lax.conv_general_dilated(*a, **keywords), x, kernel)
        return y, back(jnp.sin(y))

    return results


def calls(function, *arguments):
    """How often a compiled function calls oneDNN."""
    return jax.jit(function).lower(*arguments).as_text().count("custom_call @pfrl_convolution")


@pytest.fixture(scope="module")
def both():
    """Results of all cases by name, ``(by oneDNN, plain)``: one compilation each."""
    inputs = {name: arrays(*case[:2]) for name, case in CASES.items()}

    def everything(inputs):
        return {name: results_of(CASES[name][2])(*given) for name, given in inputs.items()}

    return jax.jit(fast(everything))(inputs), jax.jit(everything)(inputs)


@pytest.mark.parametrize("name", CASES)
def test_equal_to_the_plain_convolution_and_its_gradients(name, both):
    found, expected = (jax.tree.leaves(results[name]) for results in both)
    for one, other in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * float(jnp.abs(other).max()))


@pytest.mark.parametrize("name", CASES)
def test_all_three_are_computed_by_onednn(name):
    *shapes, keywords = CASES[name]
    # PyTorch has no gradient of the kernel of an image that is dilated.
    expected = 2 if "lhs_dilation" in keywords else 3
    assert calls(fast(results_of(keywords)), *arrays(*shapes)) == expected


def test_other_types_are_computed_by_xla():
    *shapes, keywords = CASES["depthwise, strided"]
    results = results_of(keywords)
    with jax.enable_x64(True):
        x, kernel = arrays(shapes[0], shapes[1], np.float64)
        assert calls(fast(results), x, kernel) == 0
        expected = jax.tree.leaves(results(x, kernel))
        for one, other in zip(jax.tree.leaves(fast(results)(x, kernel)), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_what_pytorch_cannot_say_is_computed_by_xla():
    """An image that is dilated, by a kernel that has strides."""
    keywords = {"lhs_dilation": (2, 2), "window_strides": (3, 3), "padding": ((2, 5), (2, 5))}
    x, kernel = arrays((2, 4, 4, 3), (3, 3, 3, 5))
    results = results_of(keywords)
    assert calls(fast(results), x, kernel) == 0
    for one, other in zip(
        jax.tree.leaves(fast(results)(x, kernel)), jax.tree.leaves(results(x, kernel)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_another_backend_gets_the_function_itself(monkeypatch):
    *shapes, keywords = CASES["depthwise"]
    results, (x, kernel) = results_of(keywords), arrays(*shapes)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert calls(fast(results), x, kernel) == 0


def test_derivatives_and_batches_of_a_fast_function():
    """It may be differentiated and vectorised like any other."""
    x, kernel = arrays((3, 2, 6, 6, 4), (3, 3, 4, 5))
    plain = results_of({"window_strides": (2, 2)})

    def total(x, kernel):
        return jnp.sin(plain(x, kernel)[0]).sum()

    for transformed in (
        lambda f: jax.vmap(f, (0, None)),
        lambda f: jax.vmap(jax.grad(f, 1), (0, None)),
        lambda f: lambda x, kernel: jax.jvp(f, (x[0], kernel), (x[1], kernel))[1],
    ):
        found, expected = (jax.jit(transformed(f))(x, kernel) for f in (fast(total), total))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_several_threads_call_at_the_same_time():
    """Whoever calls, and with however many threads: the same digits, and nobody waits for ever."""
    results = results_of({})
    step = jax.jit(lambda x, kernel: (fast(results, 1)(x, kernel), fast(results, 2)(x, kernel)))
    inputs = [arrays((4, 16, 16, 8 + n % 2), (3, 3, 8 + n % 2, 8)) for n in range(24)]
    alone = [step(*each) for each in inputs[:2]]
    with ThreadPoolExecutor(4) as pool:
        for number, found in enumerate(pool.map(lambda each: step(*each), inputs)):
            expected = jax.tree.leaves(alone[number % 2])
            for one, other in zip(jax.tree.leaves(found), expected, strict=True):
                np.testing.assert_array_equal(one, other)


def test_an_exception_is_the_error_of_the_program():
    def fails(arguments, results):
        raise ArithmeticError("three is no number")

    register("pfrl_test_fails", fails)
    call = jax.ffi.ffi_call("pfrl_test_fails", jax.ShapeDtypeStruct((2,), jnp.float32))
    with pytest.raises(jax.errors.JaxRuntimeError, match="ArithmeticError: three is no number"):
        jax.block_until_ready(jax.jit(call)(jnp.ones(2)))


def test_sharded_arrays_give_the_same():
    """On a mesh of all devices, be it of one."""
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    x, kernel = arrays((8, 6, 6, 4), (3, 3, 4, 4))
    placed = jax.device_put(x, NamedSharding(mesh, PartitionSpec("batch")))
    found, expected = jax.jit(fast(results_of({})))(placed, kernel), results_of({})(x, kernel)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_removed_channels_have_no_effect_at_all():
    """A channel of zeros adds exactly nothing, and gets a gradient of exactly zero."""
    *shapes, keywords = CASES["few channels"]
    x, kernel = arrays(*shapes)
    x[..., 5] = 0
    kernel[..., 7] = 0
    y, (_, gradient) = jax.jit(fast(results_of(keywords)))(x, kernel)
    assert not np.any(y[..., 7])
    assert not np.any(gradient[:, :, 5])
    other = kernel.copy()
    other[:, :, 5] = 100
    np.testing.assert_array_equal(jax.jit(fast(results_of(keywords)))(x, other)[0], y)


def test_gradients_of_a_depthwise_kernel_by_hand():
    """One image of 2 x 2 ones: a tap's gradient counts the pixels that it sees."""
    x = np.ones((1, 2, 2, 3), np.float32)
    kernel = np.zeros((3, 3, 1, 3), np.float32)

    def gradient(x, kernel):
        def total(kernel):
            return lax.conv_general_dilated(
                x, kernel, (1, 1), SAME, dimension_numbers=CHANNELS_LAST, feature_group_count=3
            ).sum()

        return jax.grad(total)(kernel)

    counts = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    found = np.asarray(fast(gradient)(x, kernel))
    np.testing.assert_array_equal(found, np.broadcast_to(counts[..., None, None], (3, 3, 1, 3)))


@pytest.mark.parametrize(
    "network, sides",
    [pytest.param(resnet8, (8, 8, 1), marks=pytest.mark.ci), (Branches, (6, 6, 2))],
)
def test_a_train_step_is_the_same(network, sides):
    """Loss, statistics and parameters after a step; calls within calls are entered."""
    source = from_nnx(made(network))
    optimizer = sgd(0.1, 5e-4)
    parameters, statistics = split_variables(source)
    state = TrainState(parameters, statistics, optimizer.init(parameters))
    x = np.random.default_rng(0).standard_normal((8, *sides), np.float32)
    labels = np.arange(8, dtype=np.int32) % 3
    step = make_train_step(source.apply, optimizer)
    expected = jax.jit(step)(state, x, labels, None)
    found = jax.jit(fast(step))(state, x, labels, None)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_a_fast_function_is_still_compiled_once():
    seen = []

    @jax.jit
    @fast
    def function(x, kernel):
        seen.append(x.shape)
        return results_of({})(x, kernel)

    for scale in (1.0, 2.0, 3.0):
        x, kernel = arrays((2, 8, 8, 4), (3, 3, 4, 4))
        function(x * scale, kernel)
    assert seen == [(2, 8, 8, 4)]


def test_what_a_network_holds_is_an_argument_of_its_program(monkeypatch):
    """XLA would compute with constants while it compiles."""
    source, calls = from_nnx(made(resnet8)), []

    def noted(run, threads):
        def called(arrays, x):
            calls.append((run, arrays, threads))
            return jax.jit(run)(arrays, x)

        return called

    def function(x):
        return source.apply(source.variables, x, False)[0]

    monkeypatch.setattr(backend, "compiled", noted)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 1)).astype(np.float32)
    answer = backend.answering(function, threads=1)
    for images in (x, x[:1], x):
        np.testing.assert_allclose(answer(images), function(images), rtol=1e-5, atol=1e-6)
    (run, arrays, threads), other, again = calls
    assert run is again[0] and run is not other[0] and threads == 1
    assert sum(map(np.size, arrays)) >= sum(map(np.size, source.variables.values()))
    assert all(np.size(each) <= 1 for each in jax.make_jaxpr(run)(arrays, x).consts)


def test_a_compressed_network_is_still_traced():
    """What is rewritten is the step; the network itself keeps its convolutions."""
    source = from_nnx(made(resnet8))
    x = shape(2, 8, 8, 1)
    graph = pfrl.trace(source, x)
    assert len(graph.layers) == len(pfrl.trace(source, x).layers) == 8


PROBE = """
import os, resource
from pfrl.cpu import take_core
take_core(sorted(os.sched_getaffinity(0))[-1])
import jax, jax.numpy as jnp
# Two intermediate values of 64 MB, too large for the caches of freed memory that malloc has.
step = jax.jit(lambda x: jnp.linalg.norm((x @ x) @ (x + 1)))
x = jnp.ones((4096, 4096))
[step(x).block_until_ready() for _ in range(2)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step(x).block_until_ready()
print(len(os.sched_getaffinity(0)), os.environ["XLA_FLAGS"],
      resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="pinning and the options are Linux's")
def test_a_process_of_one_core_keeps_its_memory():
    """A step's 128 MB of intermediate values are 32,768 pages; none of them is taken anew."""
    run = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "XLA_FLAGS": "--xla_cpu_use_thunk_runtime=true"},
    )
    cores, *flags, faults = run.stdout.split()
    assert cores == "1"
    assert flags == ["--xla_cpu_use_thunk_runtime=true", "--xla_cpu_multi_thread_eigen=false"]
    assert int(faults) < 5_000
