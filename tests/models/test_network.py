"""Which network is meant: a name of the zoo or a user's own function, with its weights."""

import pickle

import numpy as np
import pytest

from envs.task import load_network
from pfrl.data import DataError, load
from pfrl.files import save_arrays
from pfrl.models.catalogue import ModelError
from pfrl.models.network import Network, is_own

SHAPE = (8, 8, 1)
HEAD = """
import jax, jax.numpy as jnp, numpy as np
from flax import linen, nnx

X = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
"""
NNX = """
class Net(nnx.Module):
    def __init__(self, outputs, rngs):
        self.a = nnx.Conv(1, 4, (3, 3), strides=2, rngs=rngs)
        self.b = nnx.Linear(4, outputs, rngs=rngs)

    def __call__(self, x):
        return self.b(jax.nn.relu(self.a(x)).mean(axis=(1, 2)))

def trained():
    return Net(10, nnx.Rngs(0)), X

def untrained():
    return nnx.eval_shape(lambda: Net(10, nnx.Rngs(0))), X

def three():
    return Net(3, nnx.Rngs(0)), X

def lone():
    return Net(10, nnx.Rngs(0))

def diverged():
    net = Net(10, nnx.Rngs(0))
    net.b.kernel[...] = net.b.kernel[...] * jnp.nan
    return net, X

class Heads(Net):
    def __call__(self, x):
        return super().__call__(x), x.mean(axis=(1, 2))

def heads():
    return Heads(10, nnx.Rngs(0)), X
"""
LINEN = """
class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = jax.nn.relu(linen.Conv(4, (3, 3))(x))
        return linen.Dense(10)(x.mean(axis=(1, 2)))

def trained():
    net = Net()
    return (net, net.init(jax.random.key(0), jnp.zeros(X.shape))), X
"""
FUNCTION = """
def net(parameters, x):
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ parameters["first"]["kernel"])
    return hidden @ parameters["second"]["kernel"]

def trained():
    rng = np.random.default_rng(0)
    sizes = {"first": (64, 6), "second": (6, 10)}
    parameters = {n: {"kernel": rng.normal(size=s).astype("float32")} for n, s in sizes.items()}
    return (net, parameters), X
"""


@pytest.fixture
def written(tmp_path):
    def write(code: str, function: str = "trained") -> str:
        path = tmp_path / "net.py"
        path.write_text(HEAD + code)
        return f"{path}:{function}"

    return write


@pytest.mark.parametrize(
    ("model", "own"),
    [("net.onnx", True), ("NET.ONNX", True), ("net.py:make", True), ("resnet20", False)],
)
def test_a_network_of_ones_own_is_known_by_its_name(model, own):
    assert is_own(model) == own


@pytest.mark.parametrize("code", [NNX, LINEN, FUNCTION])
def test_a_network_of_ones_own_is_loaded_with_its_arrays(code, written):
    network = Network.find(written(code), "digits", None)
    assert pickle.loads(pickle.dumps(network)) == network and hash(network)
    dataset, graph = load_network(network.model, "digits", str(network.weights))
    images = dataset.normalize(dataset.search.images[:3])
    logits, _ = graph.source.apply(graph.source.variables, images, False)
    assert logits.shape == (3, 10) and np.ptp(np.asarray(logits)) > 0
    assert len(graph.groups) == 1


def test_weights_of_a_file_replace_the_arrays(written, tmp_path):
    model, weights = written(NNX), tmp_path / "w.npz"
    source, _ = Network.find(model, "digits", None).load(10, SHAPE, False)
    twice = {name: 2 * np.asarray(value) for name, value in source.variables.items()}
    save_arrays(weights, twice, {})
    for function in ("trained", "untrained"):
        model = model.rpartition(":")[0] + ":" + function
        loaded, _ = Network.find(model, "digits", weights).load(10, SHAPE, False)
        assert all(np.array_equal(loaded.variables[name], twice[name]) for name in twice)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("untrained", "shapes without numbers .* or give --weights"),
        ("three", r"gives \[N, 3\], and the data is for \[N, 10\]"),
        ("lone", "returns a lone Net"),
        ("diverged", "'b.kernel' of .* has numbers that are not finite: its training diverged"),
        ("heads", r"gives 2 outputs, .* gives \[N, 10\] alone, or --data images:FOLDER"),
        ("missing", "has no function 'missing'"),
    ],
)
def test_what_is_no_trained_network_for_the_data_is_one_sentence(function, sentence, written):
    with pytest.raises(ValueError, match=sentence) as found:
        Network.find(written(NNX, function), "digits", None).load(10, SHAPE, False)
    assert type(found.value).__module__.startswith("pfrl") and "\n" not in str(found.value)


def test_images_of_another_shape_are_refused(written):
    with pytest.raises(ModelError, match=r"does not run on images of the data, \[8, 8, 3\]"):
        Network.find(written(NNX), "digits", None).load(10, (8, 8, 3), False)


def test_weights_of_another_network_are_refused(written, tmp_path):
    save_arrays(tmp_path / "w.npz", {"c.kernel": np.zeros((4, 10), np.float32)}, {})
    with pytest.raises(ModelError, match="for another network"):
        Network.find(written(NNX), "digits", tmp_path / "w.npz").load(10, SHAPE, False)


def test_the_file_says_how_its_network_sees_the_data(written):
    names = tuple(reversed(load("digits").classes))
    network = Network.find(
        written(f"{NNX}\nMEAN, STD, CLASSES = [0.5], [0.25], {names}"), "digits", None
    )
    dataset, _ = load_network(network.model, "digits", str(network.weights))
    plain = load("digits")
    assert (dataset.mean, dataset.std, dataset.classes) == ((0.5,), (0.25,), names)
    assert np.array_equal(dataset.search.labels, 9 - plain.search.labels)
    assert np.array_equal(dataset.open_test().labels, 9 - plain.open_test().labels)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("MEAN, STD = (0.5, 0.5, 0.5), (1, 1, 1)", "MEAN of .* expected 1 numbers"),
        ("MEAN = (0.5,)", "one of MEAN and STD"),
        ("CLASSES = ('a', 'b')", "CLASSES of .* expected 10 names"),
        (f"CLASSES = {tuple('abcdefghij')}", "the data set 'digits' has"),
    ],
)
def test_a_view_that_does_not_fit_is_one_sentence(lines, sentence, written):
    network = Network.find(written(f"{NNX}\n{lines}"), "digits", None)
    with pytest.raises((ModelError, DataError), match=sentence):
        load_network(network.model, "digits", str(network.weights))
