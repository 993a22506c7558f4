"""Evaluations as a GPU or TPU makes them: one call, no transfer within, nothing of a CPU's own.

In a process with four devices of the host, which it takes for those of a GPU where it chooses how
to work; compiled by XLA for a CPU, whose loops and transfers are the same.
"""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from envs import OpenedTask, Problem, Task
from pfrl.compression.policy import Policy
from pfrl.cost import Budget, CostModel
from pfrl.cpu import fast
from pfrl.cpu.precision import at_precision
from pfrl.evaluation.compilations import compilations
from pfrl.evaluation.config import EpisodeConfig
from pfrl.evaluation.evaluator import NetworkEvaluator
from pfrl.evaluation.make import make_evaluator
from pfrl.graph import trace
from tests.support.tiny import TwoConvs, at_home, made, shape, stripes

DEVICES, IMAGES, STEPS = 4, 264, 8
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
FOREIGN = ("custom-call", "infeed", "outfeed", "send", "recv")
KEEPS = (1.0, 0.75, 0.5, 0.25)
IN_ITS_PROCESS = pytest.mark.ci
"""A process that compiles everything for four devices takes ten seconds; CI has them."""


def config(**changed):
    settings = {"steps": STEPS, "batch": 16, "statistics_images": 32, "learning_rate": 0.1}
    return EpisodeConfig(**settings | changed)


def plain(**changed):
    data = stripes()
    graph = at_home(trace(made(TwoConvs), shape(2, 8, 8, 1)), data)
    return NetworkEvaluator(graph, data, CostModel(graph), config(**changed), 3, False)


@dataclass(frozen=True)
class TinyTask(Task):
    """Two convolutions on stripes."""

    def open(self) -> OpenedTask:
        evaluator = plain()
        return OpenedTask(evaluator.graph, evaluator.costs, make_evaluator(evaluator), 0.25)


def lowered(evaluator):
    """The call of four policies as it is lowered, with the arguments that it gets."""
    (devices,) = [d for m, d in evaluator._batched._devices.items() if m is not None]
    starts = [evaluator._training.begun(policy) for policy in uniform(evaluator.graph)]
    own = devices.shared_out([(start.variables, start.knobs) for start in starts])
    images = devices.shown(evaluator.images["reward"], 2)
    return devices.evaluate.lower(*own, *devices.trained_on, *images)


def uniform(graph):
    return [Policy.uniform(graph, keep) for keep in KEEPS]


def in_episodes():
    """Two episodes of four policies; in the second one only marked transfers are let through."""
    import gymnasium

    from tests.envs.test_vector import actions_of

    problem = Problem(TinyTask(), budget=Budget("macs", 0.5, True))
    env = gymnasium.make_vec("pfrl/Compression-v0", num_envs=DEVICES, problem=problem)
    for seed in (0, 1):
        guard = "disallow" if seed else "allow"
        env.reset()
        before = compilations()
        with jax.transfer_guard(guard):
            for actions in actions_of(env, seed):
                *_, infos = env.step(actions)
    return compilations() - before, [each.accuracy for each in infos["evaluation"]]


def one_by_one(evaluator):
    """Two evaluations of one policy each, and compilations and accuracy of the second."""
    policies = uniform(evaluator.graph)[1:3]
    evaluator.evaluate(policies[0])
    before = compilations()
    with jax.transfer_guard("disallow"):
        found = evaluator.evaluate(policies[1])
    return compilations() - before, found.accuracy


def guarded(function):
    """Whether the guard lets a function through."""
    try:
        with jax.transfer_guard("disallow"):
            function()
    except Exception as error:
        return "transfer" not in str(error)
    return True


def main():
    """What the tests assert, as JSON: runs in a process with four devices."""
    jax.default_backend = lambda: "gpu"
    compiled_later, rewards = in_episodes()
    evaluator, short = plain(), plain(precision="bfloat16")
    policies = uniform(evaluator.graph)
    together = [e.accuracy for e in evaluator.evaluate_batch(policies)]
    program = lowered(evaluator)
    found = {
        "rewards": rewards,
        "compiled later": compiled_later,
        "one by one": one_by_one(evaluator),
        "together": together,
        "apart": [evaluator.score(policy, "reward").quality for policy in policies],
        "short": [e.accuracy for e in short.evaluate_batch(policies)],
        "program": program.as_text(),
        "short program": lowered(short).as_text(),
        "compiled": program.compile().as_text(),
        "runtime": [evaluator.choice.runtime, evaluator.choice.seconds],
        "let through": [
            guarded(lambda: jnp.sin(np.ones(3, np.float32))),
            guarded(lambda: jax.device_get(jax.device_put(np.ones(3, np.float32)))),
        ],
    }
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found():
    """What ``main`` prints."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={DEVICES}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.evaluation.test_accelerators import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@IN_ITS_PROCESS
def test_an_episode_compiles_nothing_and_moves_only_what_is_marked(found):
    assert found["let through"] == [False, True]
    assert found["compiled later"] == 0
    assert len(found["rewards"]) == DEVICES and min(found["rewards"]) > 0
    assert found["one by one"][0] == 0


@IN_ITS_PROCESS
def test_the_call_is_loops_alone_and_every_device_has_its_policies(found):
    # Over the batches of statistics, the steps, and the batches of images.
    assert found["program"].count("stablehlo.while") == 3
    text = found["compiled"]
    operations = re.findall(r"[\])}] ([a-z-]+)\(", text)
    assert {"while", "convolution"} <= set(operations)
    assert not set(operations) & {*COLLECTIVES, *FOREIGN}
    assert "callback" not in text and "pfrl_" not in text
    assert f"num_partitions={DEVICES}" in text


@IN_ITS_PROCESS
def test_accuracies_are_those_of_single_evaluations_within_the_images_interval(found):
    assert len(set(found["apart"])) > 2
    for together in (found["together"], found["short"]):
        for one, other in zip(together, found["apart"], strict=True):
            assert abs(one - other) <= 1.96 * math.sqrt(other * (1 - other) / IMAGES) + 1 / IMAGES
    accuracy = found["one by one"][1]
    assert abs(accuracy - found["together"][2]) <= 0.06
    assert found["runtime"] == ["xla", {}]


@IN_ITS_PROCESS
def test_products_have_the_digits_that_were_asked_for(found):
    products = [line for line in found["program"].splitlines() if "stablehlo.convolution" in line]
    assert products and all("HIGHEST" in line and "bf16" not in line for line in products)
    short = [line for line in found["short program"].splitlines() if "stablehlo.conv" in line]
    short = [line for line in short if "stablehlo.convolution" in line]
    assert len(short) == len(products) and all("bf16" in line for line in short)
    assert found["short"] != found["together"]


def products(x, kernel, weights):
    numbers = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    return (jnp.tanh(y).mean((1, 2)) @ weights).sum()


def operands():
    rng = np.random.default_rng(0)
    shapes = (2, 6, 6, 3), (3, 3, 3, 4), (4, 5)
    return [rng.normal(size=each).astype(np.float32) for each in shapes]


def test_products_are_rounded_gradients_included(monkeypatch):
    """By hand: operands to bfloat16, and the convolution's result; sums of float32."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    x, kernel, weights = operands()
    found = jax.jit(at_precision(jax.value_and_grad(products, 2), "bfloat16"))(x, kernel, weights)

    def short(array):
        return jnp.asarray(array, jnp.bfloat16)

    numbers = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        short(x), short(kernel), (1, 1), "SAME", dimension_numbers=numbers
    ).astype(jnp.float32)
    mean = short(jnp.tanh(y).mean((1, 2))).astype(jnp.float32)
    expected = (mean @ short(weights).astype(jnp.float32)).sum()
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    np.testing.assert_allclose(found[1], np.tile(mean.sum(0)[:, None], 5), rtol=1e-5)
    exact = products(x, kernel, weights)
    assert 1e-5 < abs(found[0] - exact) / abs(exact) < 0.1


@pytest.mark.parametrize("precision", ["float32", "tensorfloat32"])
def test_a_cpu_computes_float32_as_it_does(precision):
    x, kernel, weights = operands()
    text = jax.jit(at_precision(products, precision)).lower(x, kernel, weights).as_text()
    assert text == jax.jit(products).lower(x, kernel, weights).as_text()


def test_there_is_no_other_precision():
    with pytest.raises(ValueError, match="precision is one of float32, tensorfloat32, bfloat16"):
        at_precision(products, "float16")


@pytest.mark.parametrize(("platform", "calls"), [("cpu", 1), ("cuda", 0), ("tpu", 0)])
def test_convolutions_by_onednn_are_in_programs_for_cpus_alone(platform, calls):
    traced = jax.jit(fast(products, 1)).trace(*operands())
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("custom_call @pfrl_convolution") == calls
    assert text.count("stablehlo.convolution") == 1 - calls
