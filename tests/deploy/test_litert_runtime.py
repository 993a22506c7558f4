"""LiteRT files: what the writer writes, the runtime runs; what is none is told in a sentence."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pfrl.deploy.litert.flatbuffer import schema
from pfrl.deploy.runtimes.base import Unavailable, file_runtime
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.files import FileError
from tests.support.flat import dense

KERNEL = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
FILE = dense(KERNEL)


def images(count):
    return np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)


@pytest.mark.parametrize("count, batch", [(1, 1), (7, 3), (120, 50)])
def test_any_number_of_images_is_run(count, batch):
    session = LiteRTSession(FILE)
    assert session.input_shape == (None, 8)
    found = session.logits(images(count), batch)
    np.testing.assert_allclose(found, np.maximum(images(count) @ KERNEL, 0), atol=1e-5)


def test_threads_may_call_one_session_at_once():
    session = LiteRTSession(FILE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: session.logits(images(n), 7), range(1, 40)))
    for count, outputs in enumerate(found, 1):
        np.testing.assert_allclose(outputs, np.maximum(images(count) @ KERNEL, 0), atol=1e-5)


def test_strings_and_names_are_in_the_file():
    model = schema().ModelT.InitFromPackedBuf(FILE)
    found = {each.name.decode(): model.buffers[each.buffer].data for each in model.metadata}
    assert bytes(found["classes"]) == b"a, b" and found["empty"] is None
    (signature,) = model.signatureDefs
    assert (signature.inputs[0].name, signature.outputs[0].name) == (b"images", b"logits")


def test_weights_lie_where_a_runtime_may_map_them():
    at = FILE.index(KERNEL.T.astype("<f4").tobytes())
    assert at % 16 == 0


def test_what_is_no_network_is_told_in_one_sentence(tmp_path):
    with pytest.raises(FileError, match="no file"):
        LiteRTSession(tmp_path / "none.tflite")
    path = tmp_path / "m.tflite"
    for damaged in (b"", b"nothing", FILE[:100]):
        path.write_bytes(damaged)
        with pytest.raises(FileError, match=r"no network that LiteRT [\d.]+ can load \(.+\)"):
            LiteRTSession(path)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expects \[any, 8\]"):
        LiteRTSession(FILE).logits(np.zeros((2, 9), np.float32))


def test_a_missing_runtime_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(Unavailable, match=r"pip install 'pocketflow-rl\[litert\]'"):
        LiteRTSession(FILE)
    with pytest.raises(Unavailable, match=r"pip install 'pocketflow-rl\[litert\]'"):
        file_runtime("litert").version()
