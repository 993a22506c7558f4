"""Methods of a user, in a file outside the package: registered there, they are used by name."""

import inspect
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from pfrl.compression import recipe as module
from pfrl.compression.calibration import gather_statistics
from pfrl.compression.policy import Policy
from pfrl.compression.recipe import Recipe, RecipeError
from pfrl.compression.sliced import compress
from pfrl.cost import CostModel
from pfrl.deploy.packed.pack import pack, unpack
from pfrl.registry import load_plugin
from tests.support.conformance import BATCH, random_inputs
from tests.support.methods_conformance import check
from tests.support.methods_table import ROWS, rows_of, traced
from tests.support.tiny import TwoConvs

NETWORK = (TwoConvs, (8, 8, 1))
CRITERION = """
import numpy as np

import pfrl
from pfrl.methods.channels.base import scoring


def early(statistics):
    groups = statistics.graph.groups
    return {name: [np.arange(group.size)[::-1]] for name, group in groups.items()}


pfrl.register("criterion", "early", scoring(early))
"""
REPAIR = """
import numpy as np

import pfrl
from pfrl.methods.repair.base import Repair


def louder(statistics):
    def repaired(kept):
        gain = {k: np.asarray(v) * np.float32(1.1) for k, v in statistics.variables.items()}
        kernels = {layer.kernel for layer in statistics.graph.layers}
        return {k: gain[k] if k in kernels else v for k, v in statistics.variables.items()}

    return repaired


pfrl.register("repair", "louder", Repair(louder))
"""
QUANTIZER = """
import jax.numpy as jnp

import pfrl
from pfrl.methods.quantization.base import WeightQuantizer
from pfrl.methods.quantization.uniform import straight_through


def signs(kernel, own, bits, alive):
    rounded = jnp.sign(kernel) * own["size"]
    return jnp.where(bits == 32, kernel, straight_through(kernel, rounded))


def start(kernel, bits, alive):
    there = jnp.ones(kernel.shape) if alive is None else jnp.broadcast_to(alive, kernel.shape)
    return {"size": jnp.sum(jnp.abs(kernel) * there) / jnp.maximum(there.sum(), 1)}


pfrl.register("weight_quantizer", "signs", WeightQuantizer(signs, start))
"""
FILES = {"criterion": CRITERION, "repair": REPAIR, "weights": QUANTIZER}
NAMES = {"criterion": "early", "repair": "louder", "weights": "signs"}


@pytest.fixture(scope="module", autouse=True)
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    for name, code in FILES.items():
        (folder / f"{name}.py").write_text(code)
        load_plugin(folder / f"{name}.py")


def test_each_is_a_few_lines():
    for name, code in FILES.items():
        assert len([line for line in code.splitlines() if line.strip()]) <= 20, name


@pytest.mark.parametrize("field", NAMES)
def test_a_registered_method_is_a_row_of_the_conformance_table(field, tmp_path, monkeypatch):
    rows = rows_of(field, [NAMES[field]])
    for name, row in rows.items():
        monkeypatch.setitem(ROWS, name, row)
        check(name, NETWORK, tmp_path)


def test_they_compress_by_name_together(tmp_path):
    graph = traced(NETWORK)
    recipe = Recipe(criterion="early", repair="louder", weights="signs")
    policy = Policy.uniform(graph, keep=0.5, weight_bits=2)
    small = compress(graph.source, policy, graph=graph, recipe=recipe)
    assert all(k.tolist() == list(range(len(k))) for k in small.kept.values())
    assert small.recipe == Recipe.from_json(recipe.to_json())

    sizes = pack(small, tmp_path / "small.packed")
    assert sizes.payload == CostModel(graph, recipe=recipe).of(policy)["bytes"]
    x = random_inputs(np.random.default_rng(0), jax.ShapeDtypeStruct((BATCH, 8, 8, 1), "float32"))
    again = small.apply(unpack(tmp_path / "small.packed"), x, False)[0]
    np.testing.assert_allclose(again, small(x), rtol=1e-5, atol=1e-6)


def test_an_unknown_name_is_refused_when_it_is_used():
    recipe = Recipe(criterion="nonsense")
    with pytest.raises(RecipeError, match="unknown criterion 'nonsense'; expected one of act"):
        recipe.checked()
    with pytest.raises(RecipeError, match="unknown criterion 'nonsense'"):
        gather_statistics(traced(NETWORK), recipe)


def test_a_recipe_imports_no_jax():
    code = (
        "import sys\nfrom pfrl.compression.recipe import Recipe\n"
        "Recipe(weights='lsq')\nRecipe().checked()\nassert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_recipe_lists_all_methods_of_its_own():
    """Every registered name but those of users stands in the text beside its field."""
    source = inspect.getsource(Recipe)
    fields = re.findall(r'    (\w+): \w+ = .*\n    """((?:.|\n)*?)"""', source)
    texts = dict(fields)
    for field, registry in module.METHODS.items():
        names = set(registry) - set(NAMES.values())
        assert len(names) >= 2
        assert {name for name in names if name not in texts[field]} == set()
