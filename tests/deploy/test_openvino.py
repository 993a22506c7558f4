"""Networks in OpenVINO: the same outputs as in ONNX Runtime, and nothing said to its makers."""

import subprocess
import sys

import numpy as np
import pytest

from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.deploy.onnx.export import to_onnx
from pfrl.deploy.runtimes import openvino
from pfrl.deploy.runtimes.base import RUNTIMES, Unavailable
from pfrl.deploy.runtimes.onnxruntime import Session
from pfrl.deploy.runtimes.openvino import compile_network, precisions, second_look
from pfrl.files import FileError
from pfrl.graph import trace
from pfrl.tasks import Classification, Pose
from tests.support.tiny import TwoConvs, made, shape

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def model() -> bytes:
    graph = trace(made(TwoConvs), shape(2, *SHAPE))
    whole = compress(graph.source, Policy.uniform(graph, 1.0), graph=graph)
    return to_onnx(whole, SHAPE).SerializeToString()


# Float32 is rounded to 24 binary digits, bfloat16 to 8.
@pytest.mark.parametrize("precision, tolerance", [("f32", 1e-5), ("bf16", 1e-2)])
@pytest.mark.parametrize("count", [1, 8, 20])
def test_any_number_of_images_gives_the_outputs_of_onnx_runtime(model, precision, tolerance, count):
    if precision not in precisions():
        pytest.skip("this processor has no products of bfloat16")
    images = np.random.default_rng(0).normal(size=(count, *SHAPE)).astype(np.float32)
    expected = Session(model).logits(images)
    found = compile_network(model, SHAPE, 8, 1, 1, precision)(images)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


def test_what_is_no_network_is_told_in_one_sentence():
    with pytest.raises(FileError, match=r"no network that OpenVINO can load \(.+\)$"):
        compile_network(b"nothing", SHAPE, 8, 1)


def test_a_precision_that_the_processor_lacks_is_refused(model, monkeypatch):
    monkeypatch.setattr(openvino, "precisions", lambda: ("f32",))
    with pytest.raises(Unavailable, match="no products of bf16"):
        compile_network(model, SHAPE, 8, 1, 1, "bf16")


def test_close_calls_are_judged_again():
    rounded = np.array([[1.0, 0.0, 0.2], [0.5, 0.0, 0.499], [0.0, 1.0, 0.0], [0.7, 0.701, 0.0]])
    seen = []

    def exact(images):
        seen.append(images)
        return np.full((len(images), 3), -1.0)

    judge = second_look(lambda images: rounded.copy(), exact)
    found = judge(np.arange(4))
    np.testing.assert_array_equal(np.concatenate(seen), [1, 3])
    np.testing.assert_array_equal(found[[0, 2]], rounded[[0, 2]])
    np.testing.assert_array_equal(found[[1, 3]], -1.0)


def test_bfloat16_judges_classes_only():
    suits = RUNTIMES["openvino-bf16"].suits
    assert suits(Classification()) and not suits(Pose())


def test_the_makers_of_openvino_are_not_told_of_an_import():
    script = (
        "import sys; from pfrl.deploy.runtimes.openvino import precisions; precisions();"
        "print(*(m for m in sys.modules if m.startswith('openvino_telemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
