"""Training on four devices is training on one; the devices are forced on the host, in a process."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from pfrl.training.fit import FitConfig, fit
from pfrl.training.mesh import mesh_for, replicate, share_out
from pfrl.training.optimizers import sgd
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import TwoConvs, made, stripes

DEVICES = 4
BATCH = 16
STEPS = 5


def test_one_device_needs_no_mesh(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    assert mesh_for(BATCH) is None


def five_losses(source, mesh):
    """Losses and variables of five steps, with everything placed by hand."""
    optimizer = sgd(0.02, 5e-4)
    step = jax.jit(make_train_step(source.apply, optimizer))
    parameters = {k: v for k, v in source.variables.items() if k in source.trainable}
    statistics = {k: v for k, v in source.variables.items() if k not in source.trainable}
    state = TrainState(parameters, statistics, optimizer.init(parameters))
    state, losses = replicate(state, mesh), []
    data = stripes(train=BATCH * STEPS, search=4)
    for x, labels in data.training_batches(BATCH, np.random.default_rng(0)):
        x, labels = share_out((x, labels), mesh)
        state, loss = step(state, x, labels, None)
        losses.append(float(loss))
    return losses, {**state.parameters, **state.statistics}


def fitted(source, batch):
    """Variables of ``fit`` with everything on, and on how many devices what is answered was."""
    devices = []

    def teacher(x):
        shape = x.sharding.shard_shape(x.shape) if isinstance(x, jax.Array) else x.shape
        devices.append(len(x) // shape[0])
        return jax.numpy.zeros((len(x), 4))

    config = FitConfig(1, batch, 0.02, label_smoothing=0.1)
    data = stripes(train=batch * STEPS, search=4)
    variables, trainable = source.variables, source.trainable
    after = fit(source.apply, variables, trainable, data, config, teacher=teacher)
    return devices, after


def difference(one, other):
    """The largest between two sets of arrays."""
    return max(float(np.abs(np.asarray(one[k]) - np.asarray(other[k])).max()) for k in one)


def main():
    """What the test asserts, as JSON: runs in a process with four devices."""
    from pfrl.graph import from_nnx

    source = from_nnx(made(TwoConvs))
    one, all_four = Mesh(np.asarray(jax.devices()[:1]), ("batch",)), mesh_for(BATCH)
    losses, after = zip(*(five_losses(source, mesh) for mesh in (one, all_four)), strict=True)
    uneven = mesh_for(BATCH + 1) is None
    together, everywhere = fitted(source, BATCH), jax.local_devices
    jax.local_devices = lambda: everywhere()[:1]
    devices, trained = zip(fitted(source, BATCH), together, strict=True)
    found = {
        "losses": losses,
        "step": difference(*after),
        "learnt": difference(after[0], source.variables),
        "fit": difference(*trained),
        "devices": devices,
        "uneven": uneven,
        "whole": all(v.sharding.is_fully_replicated for v in after[1].values()),
    }
    print(json.dumps(found))


@pytest.fixture(scope="module")
def found():
    """What ``main`` prints."""
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.training.test_mesh import main; main()"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Batch normalisation with the statistics of a quarter of the batch would be far from this.
def test_four_devices_take_the_steps_of_one(found):
    alone, shared = found["losses"]
    assert len(alone) == STEPS
    assert shared == pytest.approx(alone, abs=1e-5)
    assert found["step"] < 1e-5 < found["learnt"]
    assert found["whole"]


def test_a_training_uses_all_devices_and_ends_as_on_one(found):
    alone, shared = found["devices"]
    assert set(alone) == {1} and shared == [DEVICES] * STEPS
    assert found["fit"] < 1e-5


def test_a_batch_that_does_not_divide_stays_on_one_device(found):
    assert found["uneven"]
