"""Weights from every kind of file: the same network, and files of others refused in a sentence."""

import json
import pickle
import struct

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx, serialization

from pfrl.files import FileError
from pfrl.graph.frontends import from_linen
from pfrl.graph.source import from_nnx
from pfrl.models.catalogue import ModelError, fitting_arrays
from pfrl.models.weights import read_weights

RNG = np.random.default_rng(0)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 3, (2, 2), rngs=rngs)
        self.norms = nnx.List([nnx.BatchNorm(3, rngs=rngs)])
        self.fc = nnx.Linear(3, 4, rngs=rngs)

    def __call__(self, x):
        return self.fc(self.norms[0](self.conv(x)).mean((1, 2)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Conv(3, (2, 2))(x))
        return linen.Dense(4)(x.mean((1, 2)))


@pytest.fixture(scope="module")
def net():
    model = Net(nnx.Rngs(0))
    state = nnx.state(model)

    def draw(leaf):
        return jnp.asarray(RNG.uniform(0.5, 1, leaf.shape), jnp.float32)

    nnx.update(model, jax.tree.map(draw, state))
    return model


@pytest.fixture(scope="module")
def linen_net():
    module = LinenNet()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 4, 4, 1)))
    return module, jax.tree.map(lambda x: RNG.uniform(0.5, 1, x.shape).astype("f"), variables)


def safetensors(path, arrays, change=None):
    header, data = {}, b""
    for name, array in arrays.items():
        end = len(data) + array.nbytes
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), end]}
        data += array.tobytes()
    if change is not None:
        change(header)
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def same(found, source):
    floats = {n: v for n, v in source.variables.items() if jnp.issubdtype(v.dtype, jnp.floating)}
    assert found.keys() == floats.keys()
    assert all(np.array_equal(found[name], value) for name, value in floats.items())


def test_safetensors_under_names_of_ours_and_of_pytorch(net, tmp_path):
    source = from_nnx(net)
    arrays = {n: np.asarray(v) for n, v in source.variables.items() if v.dtype == jnp.float32}
    same(
        fitting_arrays(source.variables, safetensors(tmp_path / "a.safetensors", arrays))[0], source
    )
    torch = {
        "conv.weight": arrays["conv.kernel"].transpose(3, 2, 0, 1).copy(),
        "conv.bias": arrays["conv.bias"],
        "norms.0.weight": arrays["norms.0.scale"],
        "norms.0.bias": arrays["norms.0.bias"],
        "norms.0.running_mean": arrays["norms.0.mean"],
        "norms.0.running_var": arrays["norms.0.var"],
        "fc.weight": arrays["fc.kernel"].T.copy(),
        "fc.bias": arrays["fc.bias"],
    }
    same(
        fitting_arrays(source.variables, safetensors(tmp_path / "b.safetensors", torch))[0], source
    )


def test_flax_msgpack(net, linen_net, tmp_path):
    module, variables = linen_net
    path = tmp_path / "w.msgpack"
    path.write_bytes(serialization.to_bytes(variables))
    source = from_linen(module, variables, rngs=())
    same(fitting_arrays(source.variables, path)[0], source)
    path.write_bytes(serialization.to_bytes(nnx.to_pure_dict(nnx.state(net))))
    same(fitting_arrays(from_nnx(net).variables, path)[0], from_nnx(net))


def test_orbax_checkpoints_of_a_state_and_of_steps(net, linen_net, tmp_path):
    module, variables = linen_net
    source = from_linen(module, variables, rngs=())
    with ocp.StandardCheckpointer() as writer:
        writer.save(tmp_path / "nnx", nnx.state(net))
        writer.save(tmp_path / "linen", {**variables, "step": 3, "opt_state": {"mu": np.ones(3)}})
    same(fitting_arrays(from_nnx(net).variables, tmp_path / "nnx")[0], from_nnx(net))
    same(fitting_arrays(source.variables, tmp_path / "linen")[0], source)
    with ocp.CheckpointManager(tmp_path / "steps") as manager:
        for step in (9, 10):
            saved = jax.tree.map(lambda x, s=step: x * (s == 10), variables)
            manager.save(step, args=ocp.args.StandardSave(saved))
    same(fitting_arrays(source.variables, tmp_path / "steps")[0], source)


def test_weights_of_another_network_are_refused(net, linen_net, tmp_path):
    path = tmp_path / "w.msgpack"
    path.write_bytes(serialization.to_bytes(linen_net[1]))
    with pytest.raises(ModelError, match=r"is for another network: .* \(conv.bias, ...\)"):
        fitting_arrays(from_nnx(net).variables, path)


class Harmful:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


@pytest.mark.parametrize("name", ["w.npz", "w.safetensors", "w.msgpack"])
def test_what_is_damaged_or_would_run_code_is_one_sentence(name, tmp_path):
    path = tmp_path / name
    for content in (b"", b"\x80junk" * 9, pickle.dumps(Harmful())):
        path.write_bytes(content)
        with pytest.raises(FileError, match="again") as found:
            read_weights(path)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["net.pth", "net.onnx"])
def test_files_of_other_libraries_are_refused_with_what_to_do(name, tmp_path):
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(FileError, match=r"expected an \.npz, .* give an ONNX file as --model"):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["a"].update(data_offsets=[0, 2**40]),
        lambda header: header["a"].update(shape=[7]),
        lambda header: header["a"].update(dtype="O8"),
    ],
)
def test_a_header_that_lies_is_refused(change, tmp_path):
    path = safetensors(tmp_path / "w.safetensors", {"a": np.ones(3, np.float32)}, change)
    with pytest.raises(FileError, match=r"no whole \.safetensors"):
        read_weights(path)


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileError, match="no Orbax checkpoint; expected an"):
        read_weights(tmp_path)
    (tmp_path / "_METADATA").write_text("{}")
    with pytest.raises(FileError, match="no whole Orbax checkpoint"):
        read_weights(tmp_path)
