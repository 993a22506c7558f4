"""What is no network that can be compressed is refused in one sentence, and nothing of it runs."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import helper

import pfrl
from pfrl.models.onnx.check import ImportDifferenceError, check
from pfrl.models.onnx.reader import OnnxError
from tests.support.inspecting import document, refused
from tests.support.onnx_files import file_of

KERNEL = np.ones((3, 2, 3, 3), np.float32)
IMAGE = {"x": ["N", 2, 6, 6]}
CONV = {"y": ("Conv", ["x", "w"], {})}


def written(path, change=None, calls=CONV, arrays=None, opset=18):
    """A file, changed before it is written again."""
    file_of(path, calls, IMAGE, {"w": KERNEL} | (arrays or {}), opset)
    if change is not None:
        model = onnx.load(str(path))
        change(model)
        path.write_bytes(model.SerializeToString())
    return path


def newer(model):
    model.opset_import[0].version = 99


def another_format(model):
    model.ir_version = 99


def older(model):
    model.opset_import[0].version = 7


def quantized(model):
    model.graph.node.append(helper.make_node("DequantizeLinear", ["q", "s"], ["w2"], "dq"))


def looped(model):
    model.graph.node.append(helper.make_node("Loop", ["a", "b"], ["c"], "while"))


def strange(model):
    model.graph.node[0].op_type = "DeformConv"
    model.graph.node[0].name = "head/offsets"


def unconverted(model):
    node = model.graph.node[0]
    node.op_type = "StatefulPartitionedCall"
    node.attribute.add(name="config_proto", type=onnx.AttributeProto.STRING, s=bytes([0x82]))


def foreign(model):
    model.graph.node[0].domain = "com.example"


def dangling(model):
    model.graph.node[0].input[0] = "nowhere"


def half(model):
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(KERNEL.astype(np.float16), "w")
    )


def endless(model):
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(KERNEL * np.inf, "w"))


def outside(model):
    array = model.graph.initializer[0]
    array.ClearField("raw_data")
    array.data_location = onnx.TensorProto.EXTERNAL
    array.external_data.add(key="location", value="../secret.bin")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (another_format, "is of version 99 of the format, which is too new"),
        (newer, "opset 99, which is too new; export it with one from 9 to"),
        (older, "opset 7, which is too old"),
        (quantized, r"quantized already \('DequantizeLinear', node 'dq'\)"),
        (looped, r"control flow \('Loop', node 'while'\)"),
        (
            strange,
            r"the operator 'DeformConv' \(node 'head/offsets'\), which is unknown .* FILE.py",
        ),
        (unconverted, "the operator 'StatefulPartitionedCall'"),
        (foreign, "the operator 'com.example.Conv'"),
        (dangling, "damaged: nothing makes 'nowhere', which the node 'y' reads"),
        (half, r"is in float16 \('w'\); export the network in float32"),
        (endless, "not finite on random inputs"),
        (outside, "keeps 'w' in ../secret.bin, outside of its folder, which is not read"),
    ],
)
def test_a_file_that_is_no_plain_network_is_one_sentence(change, sentence, tmp_path):
    (tmp_path / "secret.bin").write_bytes(KERNEL.tobytes())
    folder = tmp_path / "models"
    folder.mkdir()
    with pytest.raises(OnnxError, match=sentence) as found:
        pfrl.from_onnx(written(folder / "net.onnx", change))
    assert "\n" not in str(found.value)


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret.bin").write_bytes(KERNEL.tobytes())
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "w.bin").symlink_to(tmp_path / "secret.bin")

    def linked(model):
        outside(model)
        model.graph.initializer[0].external_data[0].value = "w.bin"

    with pytest.raises(OnnxError, match="outside of its folder"):
        pfrl.from_onnx(written(folder / "net.onnx", linked))


def test_arrays_beside_the_file_are_read_whole_or_not_at_all(tmp_path):
    def beside(model):
        outside(model)
        model.graph.initializer[0].external_data[0].value = "w.bin"

    path = written(tmp_path / "net.onnx", beside)
    with pytest.raises(OnnxError, match="no such file"):
        pfrl.from_onnx(path)
    (tmp_path / "w.bin").write_bytes(KERNEL.tobytes()[:-4])
    with pytest.raises(
        OnnxError, match=r"w\.bin is damaged: it has 212 bytes of 'w', expected 216"
    ):
        pfrl.from_onnx(path)
    (tmp_path / "w.bin").write_bytes(KERNEL.tobytes())
    kernel = pfrl.from_onnx(path).variables["w.kernel"]
    assert np.array_equal(kernel, KERNEL.transpose(2, 3, 1, 0))


@pytest.mark.parametrize("content", [b"", b"no network", bytes(range(256))])
def test_damaged_files_are_told_by_the_command_too(content, tmp_path, capsys):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert "export it again" in refused(capsys, "--model", str(path))
    whole = written(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert str(path) in refused(capsys, "--model", str(path))
    assert "no file" in refused(capsys, "--model", str(tmp_path / "none.onnx"))


def test_inspect_takes_a_file(tmp_path, capsys):
    calls = CONV | {"z": ("Relu", ["y"], {}), "out": ("Conv", ["z", "v"], {})}
    path = written(tmp_path / "net.onnx", None, calls, {"v": np.ones((2, 3, 1, 1), np.float32)})
    found = document(capsys, "--model", str(path))
    assert [(layer["name"], layer["macs"]) for layer in found["layers"]] == [
        ("w", 4 * 4 * 9 * 2 * 3),
        ("v", 4 * 4 * 3 * 2),
    ]
    assert [group["size"] for group in found["groups"]] == [3]


# What ONNX Runtime answers without its optimisations and with them, where the network says 1.
@pytest.mark.parametrize(
    ("plain", "optimised", "fits"),
    [
        (1 + 5e-5, 1.0, True),
        (1 + 5e-4, 1 + 1e-4, True),
        (1 + 5e-4, 1 + 4.5e-4, False),
        (1.2, 1.0, False),
    ],
    ids=["close", "as far as its own", "its own agree", "too far in any case"],
)
def test_a_network_is_as_close_as_the_runtime_is_to_itself(plain, optimised, fits, monkeypatch):
    answers = {False: plain, True: optimised}

    def expected(file, inputs, optimised=False):
        return [np.full((2, 3), answers[optimised])]

    monkeypatch.setattr("pfrl.models.onnx.check._expected", expected)
    read = SimpleNamespace(
        path="net.onnx", outputs=["y"], inputs=[SimpleNamespace(dtype=np.dtype("float32"))]
    )
    network = SimpleNamespace(variables={}, apply=lambda v, x, train: (jnp.ones((2, 3)), {}))
    with nullcontext() if fits else pytest.raises(ImportDifferenceError, match="'y' differs"):
        check(cast(Any, read), cast(Any, network), [(4,)])
