"""``pfrl inspect --model`` on files that a user might write, whole and broken."""

import re
import sys
from pathlib import Path

import pytest

from experiments import cli
from tests.support.inspecting import document, refused

ROOT = Path(__file__).resolve().parents[2]
HEAD = """
import jax
import jax.numpy as jnp
from flax import linen, nnx

def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)

"""
NNX = """
class Net(nnx.Module):
    def __init__(self, rngs, between=lambda x: x):
        self.a = nnx.Linear(3, 4, rngs=rngs)
        self.b = nnx.Linear(4, 6, rngs=rngs)
        self.c = nnx.Linear(6, 2, rngs=rngs)
        self.between = between

    def __call__(self, x):
        return self.c(jax.nn.relu(self.b(self.between(self.a(x)))))

def build(between=lambda x: x):
    return nnx.eval_shape(lambda: Net(nnx.Rngs(0), between))

def make():
    return build(), shape(5, 3)
"""


@pytest.fixture
def module(tmp_path):
    """A function that writes ``net.py`` and gives the arguments that inspect its ``make``."""

    def write(code: str, function: str = "make") -> list[str]:
        path = tmp_path / "net.py"
        path.write_text(HEAD + code)
        return ["--model", f"{path}:{function}"]

    return write


# 3*4 + 4*6 + 6*2 multiplications; half of everything but the input and the output: 3*2 + 2*3 + 3*2.
def test_a_network_of_ones_own(module, capsys):
    found = document(capsys, *module(NNX))
    assert found["network"] == "net.py:make"
    assert found["inputs"][0]["shape"] == [5, 3]
    assert found["macs"] == 48 and found["half"]["macs"] == 18
    assert [(group["name"], group["size"]) for group in found["groups"]] == [("a", 4), ("b", 6)]


LINEN = """
class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        x = jax.nn.relu(linen.Dense(4)(x))
        return linen.Dense(2)(x)

def make():
    x = shape(1, 3)
    net = Net()
    return (net, jax.eval_shape(net.init, jax.random.key(0), x)), x
"""
FUNCTION = """
def net(params, x, y):
    return (jnp.tanh(x @ params["first"]) + y @ params["second"]) @ params["third"]

def make():
    params = {"first": shape(3, 4), "second": shape(5, 4), "third": shape(4, 2)}
    return (net, params), shape(7, 3), shape(7, 5)
"""


def test_a_linen_module(module, capsys):
    found = document(capsys, *module(LINEN))
    assert [(group["name"], group["size"]) for group in found["groups"]] == [("Dense_0", 4)]
    assert found["macs"] == 3 * 4 + 4 * 2


def test_a_function_with_two_inputs(module, capsys):
    arguments = module(FUNCTION)
    found = document(capsys, *arguments)
    (group,) = found["groups"]
    assert (group["producers"], group["consumers"]) == (["first", "second"], ["third"])
    assert found["macs"] == 3 * 4 + 5 * 4 + 4 * 2
    assert cli.main(["inspect", *arguments]) == 0
    assert capsys.readouterr().out.startswith("net.py:make on N × 3 float32 and N × 5 float32\n")


def test_a_file_may_import_its_neighbours_and_print(module, tmp_path, capsys):
    (tmp_path / "pfrl_test_widths.py").write_text("HIDDEN = 4\n")
    code = NNX.replace("nnx.Linear(3, 4,", "nnx.Linear(3, HIDDEN,")
    code = "from pfrl_test_widths import HIDDEN\nprint('loading')\n" + code
    path = list(sys.path)
    assert document(capsys, *module(code))["groups"][0]["size"] == 4
    assert sys.path == path
    del sys.modules["pfrl_test_widths"]


def test_an_unknown_primitive_is_told(module, capsys):
    code = NNX + "\ndef spectral():\n    return build(lambda x: jnp.fft.fft(x).real), shape(5, 3)\n"
    arguments = module(code, "spectral")
    found = document(capsys, *arguments)
    assert found["unknown"] == ["fft"]
    assert [group["name"] for group in found["groups"]] == ["b"]
    assert {"reason": "the primitive 'fft'", "layers": {"a": 4}} in found["frozen"]
    assert cli.main(["inspect", *arguments]) == 0
    table = capsys.readouterr().out
    assert "No rule for the primitive 'fft': nothing that it touches is removed." in table
    assert re.search(r"f1 +4 +a +the primitive 'fft'", table)


JOINED = """
class Joined(nnx.Module):
    def __init__(self, rngs):
        self.a = nnx.Linear(2, 6, rngs=rngs)
        self.b = nnx.Linear(8, 8, rngs=rngs)
        self.c = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = jnp.concatenate([x, self.a(x)], axis=-1)
        return self.c(x + self.b(x))

def make():
    return nnx.eval_shape(lambda: Joined(nnx.Rngs(0))), shape(1, 2)
"""


# The two inputs stay, and so do the two channels of b that are added to them.
def test_a_layer_may_be_frozen_in_part(module, capsys):
    arguments = module(JOINED)
    found = document(capsys, *arguments)
    assert [(group["name"], group["size"]) for group in found["groups"]] == [("a", 6)]
    assert {entry["reason"]: entry["layers"] for entry in found["frozen"]} == {
        "a fixed place beside it": {"b": 2},
        "the network's output": {"c": 3},
    }
    assert found["layers"][1]["c_out"] == {
        "fixed": 2,
        "terms": [{"places": 1, "groups": ["a"]}],
    }
    assert cli.main(["inspect", *arguments]) == 0
    assert re.search(r"b +dense +8×8 +8 +64 +64 +g1 \+ f1", capsys.readouterr().out)


def test_nothing_to_remove_is_told(module, tmp_path, capsys):
    svg = tmp_path / "coupling.svg"
    code = "def make():\n    return (lambda p, x: x @ p, shape(3, 2)), shape(1, 3)\n"
    assert cli.main(["inspect", *module(code), "--svg", str(svg)]) == 0
    assert "nothing can be removed from this network" in capsys.readouterr().out
    code = "def make():\n    return (lambda p, x: x + p, shape(3)), shape(1, 3)\n"
    assert cli.main(["inspect", *module(code), "--svg", str(svg)]) == 0
    assert "No layer" in capsys.readouterr().out
    assert "0 layers, 0 channel groups" in svg.read_text()


# Lines are counted from HEAD, which has 8.
BROKEN = {
    "misspelt": ("def mkae(): pass", "has no function 'make'; it has shape, mkae"),
    "syntax": ("def make(:", "raises SyntaxError: invalid syntax"),
    "import": ("import no_such_thing", "raises ModuleNotFoundError: No module named"),
    "exit": ("import sys; sys.exit(1)", "raises SystemExit: 1 (net.py, line 9)"),
    "raises": ("def make():\n    1 / 0", "ZeroDivisionError: division by zero (net.py, line 10)"),
    "argument": ("def make(x): return x", "missing 1 required positional argument: 'x'"),
    "no input": (NNX + "make = build", "returns a lone Net; expected (model, x, ...)"),
    "a number": ("def make(): return 3, shape(1, 3)", "returns 'int' without variables; expected"),
    "alone": ("def make(): return shape, shape(1, 3)", "returns 'function' without variables"),
    "no network": ("def make(): return (3, {}), shape(1, 3)", "got int"),
    "list": (NNX + "def make(): return build(), [1.0]", "input 1 of"),
    "no axes": (NNX + "def make(): return build(), shape()", "has no axes"),
    "wrong size": (NNX + "def make(): return build(), shape(1, 9)", "an input of shape (1, 9)"),
    "key": (NNX + "def make(): return build(lambda x: {}[x.size]), shape(1, 3)", "KeyError: 4"),
    "branch": (NNX + "def make(): return build(lambda x: x if x[0, 0] else -x), shape(1, 3)", "if"),
}


@pytest.mark.parametrize(("code", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_gives_no_network_is_refused(code, sentence, module, capsys):
    assert sentence in refused(capsys, *module(code))


def test_the_example_of_the_documentation_is_a_network(tmp_path, capsys):
    page = (ROOT / "docs/guide/graph.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    path = tmp_path / "mynet.py"
    path.write_text(code.group(1))
    functions = re.findall(r"^def (\w+)\(\):", code.group(1), re.MULTILINE)
    assert len(functions) >= 2
    for function in functions:
        assert document(capsys, "--model", f"{path}:{function}")["groups"]
