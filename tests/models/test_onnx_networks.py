"""PyTorch's networks by way of ONNX: imported, halved, exported, and every step agrees."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import pfrl
from pfrl.compression.sliced import run_graph
from pfrl.graph.masks import Masks
from pfrl.models.onnx.names import ANONYMOUS
from tests.support.conformance import QUICK
from tests.support.torch_networks import NETWORKS, SIZE, exported, randomised

IMAGE = (3, SIZE, SIZE)


def close(found, wanted, tolerance=2e-5):
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


def ran(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def images(count=3):
    return np.random.default_rng(0).normal(size=(count, *IMAGE)).astype(np.float32)


def computed(function, *arguments):
    """Compiled as a whole and quickly; operation by operation takes many times as long."""
    return np.asarray(jax.jit(function, compiler_options=QUICK)(*arguments))


def halved(graph):
    """The uniform policy that comes nearest to half of the multiplications."""
    policies = [pfrl.Policy.uniform(graph, keep=keep) for keep in np.linspace(0.3, 0.95, 14)]
    return min(policies, key=lambda p: abs(graph.macs_at(p.counts(graph)) / graph.macs - 0.5))


LESS_OFTEN = {"Encoder", "NormalizerFree", "TokensFirst"}
"""Networks that are left to CI."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.ci if name in LESS_OFTEN else ()) for name in NETWORKS],
)
def test_a_network_is_imported_halved_and_exported(name, tmp_path):
    """With normalisations kept, an odd batch, outputs far from zero, more than one group cut."""
    network = randomised(NETWORKS[name]())
    source = pfrl.from_onnx(exported(network, tmp_path / "net.onnx", "keep"))
    x = images()
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    assert np.abs(wanted).max() > 0.1
    close(computed(lambda x: source.apply(source.variables, x, False)[0], x), wanted)

    graph = pfrl.trace(source, jax.ShapeDtypeStruct(x.shape, jnp.float32))
    assert not graph.unknown
    policy = halved(graph)
    small = pfrl.compress(source, policy, graph=graph)
    assert 0.4 < small.macs / graph.macs < 0.6
    masks = Masks(graph)
    masked = masks.apply(source.variables, jnp.asarray(masks.vector(small.kept)))
    assert sum(len(kept) < graph.groups[name].size for name, kept in small.kept.items()) > 1
    sliced = computed(small, x)
    close(computed(lambda x: run_graph(graph, masked, x, False)[0], x), sliced)
    assert np.abs(sliced - wanted).max() > 1e-3

    pfrl.export_onnx(small, IMAGE, tmp_path / "small.onnx")
    close(ran(tmp_path / "small.onnx", x), sliced)
    again = pfrl.from_onnx(tmp_path / "small.onnx")
    close(computed(lambda x: again.apply(again.variables, x, False)[0], x), sliced)


@pytest.mark.parametrize(
    ("name", "opset"),
    [
        ("ConvNeXt", 12),
        ("VisionTransformer", 17),
        pytest.param("ConvNeXt", 17, marks=pytest.mark.ci),
        pytest.param("VisionTransformer", 14, marks=pytest.mark.ci),
    ],
)
def test_channels_go_that_a_layer_normalisation_reads(name, opset, tmp_path):
    """Those between blocks, too; up to opset 16 a file spells the normalisation out."""
    network = randomised(NETWORKS[name]())
    path = exported(network, tmp_path / "net.onnx", opset=opset)
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert ("LayerNormalization" in operators) == (opset == 17)
    graph = pfrl.trace(pfrl.from_onnx(path), images(1))
    assert graph.groups["patch"].size == 16


QUICKLY: dict[tuple[str, str, bool], Any] = {
    ("ResNet", "fold", True): (),
    ("ResNet", "dynamo", True): pytest.mark.ci,
    ("VisionTransformer", "fold", False): (),
}
"""What is tested always, or by CI; the rest takes a minute."""
NAMELESS = {("NormalizerFree", "fold"): 0}
"""Where the exporter folds all kernels but the last into arrays that have lost their names."""


@pytest.mark.parametrize(
    ("name", "how", "dynamic"),
    [
        pytest.param(*case, marks=QUICKLY.get(case, pytest.mark.slow))
        for case in itertools.product(NETWORKS, ("fold", "dynamo"), (True, False))
    ],
)
def test_files_of_both_exporters_are_understood(name, how, dynamic, tmp_path):
    """Importing compares with ONNX Runtime; what a fixed file computes is asked of two images."""
    if how == "dynamo":
        pytest.importorskip("onnxscript")
    network = randomised(NETWORKS[name]())
    source = pfrl.from_onnx(exported(network, tmp_path / "net.onnx", how, dynamic))
    kernels = [name for name in source.variables if name.endswith(".kernel")]
    assert len(kernels) > NAMELESS.get((name, how), 3)
    assert not any(map(ANONYMOUS.match, source.variables))


def test_training_normalises_by_the_batch_as_pytorch_does(tmp_path):
    """Outputs and running means; PyTorch's running variance is of n - 1 images, ours of n."""
    network = randomised(NETWORKS["ResNet"]())
    source = pfrl.from_onnx(exported(network, tmp_path / "net.onnx", "keep"))
    x = images(4)
    step = jax.jit(lambda v, x: source.apply(v, x, True), compiler_options=QUICK)
    outputs, statistics = step(source.variables, x)
    network.train()
    with torch.no_grad():
        wanted = network(torch.from_numpy(x)).numpy()
    close(outputs, wanted, 1e-4)
    state = network.state_dict()
    close(statistics["bn1.mean"], state["bn1.running_mean"].numpy())
    close(statistics["layer2.0.bn2.mean"], state["layer2.0.bn2.running_mean"].numpy(), 1e-4)
    before, after = source.variables["bn1.var"], state["bn1.running_var"].numpy()
    count = 4 * SIZE**2
    close(statistics["bn1.var"] - 0.9 * before, (after - 0.9 * before) * (count - 1) / count, 1e-4)
