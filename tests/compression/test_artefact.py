"""A saved network is the same network, for whoever has only its directory."""

import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from pfrl.compression.policy import Policy
from pfrl.compression.saved import ARRAYS, PROGRAMS, Loaded, load, save
from pfrl.compression.sliced import Compressed, compress
from pfrl.files import META_KEY, FileError, load_arrays, save_arrays
from pfrl.graph import trace
from pfrl.training.step import TrainState, make_train_step
from tests.support.tiny import TwoConvs, made, shape

ROOT = Path(__file__).resolve().parents[2]


def arrays_of(*sizes, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=sizes).astype(np.float32))


class Dropping(nnx.Module):
    """[N, 3] to 2 logits, and what is before them; half of the 4 hidden units drop out."""

    def __init__(self):
        self.a = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        self.drop = nnx.Dropout(0.5, rngs=nnx.Rngs(1))
        self.b = nnx.Linear(4, 2, rngs=nnx.Rngs(2))

    def __call__(self, x):
        return self.b(self.drop(jax.nn.relu(self.a(x))))


def compressed(model, example, **settings) -> Compressed:
    graph = trace(model, example)
    sites = graph.sites if "act_bits" in settings else ()
    ranges = {site.name: (-2.0, 2.0) for site in sites}
    policy = Policy.uniform(graph, **settings)
    return compress(model, policy, graph=graph, ranges=ranges)


NETWORKS = {
    "normalised": lambda: compressed(made(TwoConvs), shape(2, 8, 8, 1), keep=0.5),
    "quantized": lambda: compressed(
        made(TwoConvs), shape(2, 8, 8, 1), keep=0.5, weight_bits=4, act_bits=8
    ),
    "dropout": lambda: compressed(Dropping(), shape(2, 3), keep=0.5),
}
INPUTS = {"normalised": (8, 8, 1), "quantized": (8, 8, 1), "dropout": (3,)}


@pytest.fixture(scope="module", params=list(NETWORKS))
def pair(request, tmp_path_factory):
    """A network, the directory that it was saved in, and inputs of another batch size."""
    small = NETWORKS[request.param]()
    directory = tmp_path_factory.mktemp("artefact") / request.param
    assert save(small, directory) == directory
    return small, directory, arrays_of(5, *INPUTS[request.param])


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    small = NETWORKS["dropout"]()
    return small, save(small, tmp_path_factory.mktemp("saved") / "network")


def assert_equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_loaded_network_is_what_was_saved(pair):
    small, directory, x = pair
    loaded = load(directory)
    assert sorted(entry.name for entry in directory.iterdir()) == sorted(
        [ARRAYS, *PROGRAMS.values()]
    )
    assert (loaded.policy, loaded.params) == (small.policy, small.params)
    assert loaded.trainable == small.graph.source.trainable
    assert {name: kept.tolist() for name, kept in loaded.kept.items()} == {
        name: np.asarray(kept).tolist() for name, kept in small.kept.items()
    }
    for name, value in small.variables.items():
        np.testing.assert_array_equal(loaded.variables[name], value)
    assert_equal(jax.jit(loaded)(x), jax.jit(small)(x))
    assert_equal(loaded(x), jax.jit(small)(x))
    for train in (False, True):
        ours, theirs = (jax.jit(n.apply, static_argnums=2) for n in (loaded, small))
        assert_equal(ours(loaded.variables, x, train), theirs(small.variables, x, train))


def described(directory):
    """What is said about a saved network beside its arrays."""
    with np.load(directory / ARRAYS, allow_pickle=False) as archive:
        return json.loads(archive[META_KEY].tobytes())


def two_steps(network, trainable, x):
    """Parameters, statistics and losses after two steps of training on random labels."""
    optimizer = optax.sgd(0.1, momentum=0.9)
    variables = {name: jnp.asarray(value) for name, value in network.variables.items()}
    parameters = {name: variables[name] for name in trainable}
    statistics = {name: variables[name] for name in variables if name not in trainable}
    state = TrainState(parameters, statistics, optimizer.init(parameters))
    step = jax.jit(make_train_step(network.apply, optimizer))
    losses = []
    for seed in (1, 2):
        labels = jnp.asarray(np.random.default_rng(seed).integers(0, 2, len(x)))
        state, loss = step(state, x + seed, labels, None)
        losses.append(loss)
    return state, losses


def test_a_loaded_network_trains_as_the_saved_one(pair):
    small, directory, x = pair
    loaded = load(directory)
    ours, losses = two_steps(loaded, loaded.trainable, x)
    assert_equal((ours, losses), two_steps(small, small.graph.source.trainable, x))
    # Something was learnt, and the statistics went on.
    moved = {
        name for name in ours.parameters if np.any(ours.parameters[name] != loaded.variables[name])
    }
    assert moved == loaded.trainable
    assert any(np.any(ours.statistics[name] != loaded.variables[name]) for name in ours.statistics)
    # With the tuned arrays it is saved again, in the place of the old one.
    tuned = dataclasses.replace(loaded, variables={**ours.parameters, **ours.statistics})
    again = load(save(tuned, directory.with_name("tuned")))
    assert_equal(jax.jit(again)(x), jax.jit(tuned)(x))
    assert again.policy == loaded.policy
    gradient = jax.jit(jax.grad(lambda x: again(x).sum()))(x)
    assert_equal(gradient, jax.jit(jax.grad(lambda x: tuned(x).sum()))(x))


STRANGER = """
import sys
sys.modules["tests"] = None  # its import fails
import jax, numpy as np
from pfrl.compression.saved import load
network = load(sys.argv[1])
given = np.load(sys.argv[2])
np.testing.assert_allclose(network(given["x"]), given["y"], rtol=1e-6, atol=1e-6)
loss = lambda v: network.apply({**network.variables, **v}, given["x"], True)[0].sum()
gradient = jax.jit(jax.grad(loss))({name: network.variables[name] for name in network.trainable})
assert any(np.any(value) for value in gradient.values())
assert not any(name.startswith("tests") for name in sys.modules if sys.modules[name])
"""


def test_whoever_has_not_the_code_can_run_it(saved, tmp_path):
    small, directory = saved
    x = arrays_of(5, 3)
    np.savez(tmp_path / "given.npz", x=x, y=jax.jit(small)(x))
    arguments = [str(directory), str(tmp_path / "given.npz")]
    subprocess.run([sys.executable, "-c", STRANGER, *arguments], check=True, cwd=ROOT)


def test_files_do_not_say_where_they_were_made(pair):
    for entry in pair[1].iterdir():
        content = entry.read_bytes()
        assert b".py" not in content and str(ROOT).encode() not in content


def test_a_network_with_a_slice_takes_any_batch(tmp_path):
    """Shortcuts of ResNets take every second pixel, and all of the batch."""

    class Sliced(TwoConvs):
        def __call__(self, x):
            return super().__call__(x[:, ::2, ::2])

    small = compressed(made(Sliced), shape(1, 16, 16, 1), keep=0.5)
    loaded = load(save(small, tmp_path / "network"))
    x = arrays_of(5, 16, 16, 1)
    assert_equal(loaded(x), jax.jit(small)(x))


class Pairs(nnx.Module):
    """Takes and gives several; its program holds for the traced batch of 4 only."""

    def __init__(self):
        self.a = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        y = self.a(x)
        return {"pairs": y.reshape(2, 2, 4), "all": (y,)}


def test_a_network_of_one_batch_size_keeps_it(tmp_path):
    small = compressed(Pairs(), shape(4, 3))
    loaded = load(save(small, tmp_path / "network"))
    x = arrays_of(4, 3)
    assert_equal(loaded(x), jax.jit(small)(x))
    assert described(tmp_path / "network")["inputs"] == {
        "evaluate.jaxexport": [[[4, 3], "float32"]],
        "train.jaxexport": [[[4, 3], "float32"]],
    }
    with pytest.raises(ValueError, match=r"4.*5|5.*4"):
        loaded(arrays_of(5, 3))


def test_several_inputs_and_strange_dtypes(tmp_path):
    """A network made by hand: what it does is ``x · w + table[y] + z``."""
    small = compressed(Dropping(), shape(2, 3))
    variables = {"w": jnp.asarray([2.0], jnp.bfloat16), "table": jnp.arange(3, dtype=jnp.int8)}

    class Two(Compressed):
        def apply(self, variables, x, train):
            total = x[0] * variables["w"] + variables["table"][x[1]] + x[2]
            return total, {"table": variables["table"] + train}

    source = small.graph.source._replace(variables=variables, trainable=frozenset({"w"}))
    inputs = (shape(2), jax.ShapeDtypeStruct((2,), jnp.int32), shape())
    graph = dataclasses.replace(small.graph, source=source, inputs=inputs)
    two = Two(graph, small.policy, {}, variables)
    loaded = load(save(two, tmp_path / "two"))
    assert loaded.variables["w"].dtype == jnp.bfloat16
    x, y = jnp.asarray([1.0, 10.0, 100.0]), jnp.asarray([0, 1, 2])
    # 2x + y + 0.5, in either way of calling.
    np.testing.assert_array_equal(loaded(x, y, 0.5), [2.5, 21.5, 202.5])
    outputs, statistics = loaded.apply(loaded.variables, (x, y, 0.5), True)
    np.testing.assert_array_equal(outputs, [2.5, 21.5, 202.5])
    np.testing.assert_array_equal(statistics["table"], [1, 2, 3])


@pytest.fixture
def copy(saved, tmp_path):
    """A saved network to spoil."""
    for entry in saved[1].iterdir():
        (tmp_path / entry.name).write_bytes(entry.read_bytes())
    return tmp_path


def test_missing_files_are_named(copy):
    with pytest.raises(FileError, match=r"no variables.npz in .*nowhere; expected a directory"):
        load(copy / "nowhere")
    (copy / PROGRAMS[True]).unlink()
    with pytest.raises(FileError, match=r"no file .*train.jaxexport; save the network again"):
        load(copy)


@pytest.mark.parametrize("name", PROGRAMS.values())
def test_damaged_programs_are_refused(copy, name):
    whole = (copy / name).read_bytes()
    for spoiled in (whole[:-1], whole[:500] + bytes([whole[500] ^ 1]) + whole[501:], b""):
        (copy / name).write_bytes(spoiled)
        with pytest.raises(FileError, match=rf"{name} is damaged or belongs to another network"):
            load(copy)


def test_damaged_and_foreign_arrays_are_refused(copy):
    arrays, meta = load_arrays(copy / ARRAYS)
    for change, message in (
        ({"format": None}, "is no network that pfrl.save wrote"),
        ({"version": 2}, "is of format version 2, expected 1; save it anew"),
        ({"policy": {"keep": 3}}, "is damaged .expected a policy"),
        ({"dtypes": {"nothing": "float32"}}, "is damaged .'nothing'"),
        ({"kept": None}, "is damaged"),
        ({"sha256": []}, "is damaged"),
    ):
        save_arrays(copy / ARRAYS, arrays, {**meta, **change})
        with pytest.raises(FileError, match=message):
            load(copy)
    np.savez(copy / ARRAYS, **{"a.bias": arrays["a.bias"]}, allow_pickle=False)
    with pytest.raises(FileError, match=r"is no network that pfrl\.save wrote"):
        load(copy)
    (copy / ARRAYS).write_bytes(b"no archive")
    with pytest.raises(FileError, match=r"is no whole .npz file"):
        load(copy)


def replaced_program(directory, blob):
    """Put another program in the place of the evaluation, with its checksum."""
    arrays, meta = load_arrays(directory / ARRAYS)
    (directory / PROGRAMS[False]).write_bytes(blob)
    meta["sha256"][PROGRAMS[False]] = hashlib.sha256(blob).hexdigest()
    save_arrays(directory / ARRAYS, arrays, meta)


def test_programs_that_call_other_code_are_refused(copy):
    def program(arrays, inputs):
        given = inputs[0].astype(jnp.int32)
        return jax.ffi.ffi_call("run_python", given)(given), []

    checks = [jax.export.DisabledSafetyCheck.custom_call("run_python")]
    exported = jax.export.export(jax.jit(program), disabled_checks=checks)([], [shape(2, 3)])
    replaced_program(copy, bytes(exported.serialize(vjp_order=1)))
    with pytest.raises(FileError, match=r"calls 'run_python', which is no part of a network"):
        load(copy)
    replaced_program(copy, b"no program at all, whoever signed it")
    with pytest.raises(FileError, match=r"was written by JAX .* and cannot be read by"):
        load(copy)


def test_networks_without_a_serialised_form_are_refused(saved, tmp_path):
    class Calling(Compressed):
        def apply(self, variables, x, train):
            outputs, statistics = super().apply(variables, x, train)
            spec = jax.ShapeDtypeStruct(outputs.shape, outputs.dtype)
            return jax.pure_callback(np.asarray, spec, outputs), statistics

    small = saved[0]
    calling = Calling(small.graph, small.policy, small.kept, small.variables)
    with pytest.raises(FileError, match="the network has no serialised form: "):
        save(calling, tmp_path / "network")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_stays_unless_it_is_a_saved_network(saved, tmp_path, monkeypatch):
    small, directory = saved
    loaded = load(directory)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for name in ("file", "full"):
        with pytest.raises(FileError, match="is there and is no saved network; choose another"):
            save(small, tmp_path / name)
    with pytest.raises(FileError, match=r"cannot write .*file/network"):
        save(loaded, tmp_path / "file" / "network")
    (tmp_path / "network").mkdir()
    save(loaded, tmp_path / "network")
    tuned = {name: value + 1 for name, value in loaded.variables.items()}
    changed = dataclasses.replace(loaded, variables=tuned)

    def full(*arguments):
        raise FileError("cannot write: No space left on device")

    # Interrupted, it leaves the old one and nothing else.
    with monkeypatch.context() as patched:
        patched.setattr("pfrl.compression.saved.save_arrays", full)
        with pytest.raises(FileError, match="No space"):
            save(changed, tmp_path / "network")
    assert isinstance(load(tmp_path / "network"), Loaded)
    np.testing.assert_array_equal(
        load(tmp_path / "network").variables["a.bias"], small.variables["a.bias"]
    )
    save(changed, tmp_path / "network")
    np.testing.assert_array_equal(load(tmp_path / "network").variables["a.bias"], tuned["a.bias"])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "full", "network"]


def test_the_description_is_plain(saved):
    meta = described(saved[1])
    assert meta["format"] == "pfrl network" and meta["jax"] == jax.__version__
    assert meta["trainable"] == ["a.bias", "a.kernel", "b.bias", "b.kernel"]
    assert meta["inputs"] == {
        "evaluate.jaxexport": [[[None, 3], "float32"]],
        "train.jaxexport": [[[None, 3], "float32"]],
    }
    assert meta["dtypes"]["drop.rngs.key"] == "uint32"
    assert Policy.from_json(meta["policy"]) == saved[0].policy
