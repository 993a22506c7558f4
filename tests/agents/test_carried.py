"""A trained agent starts on another network: it loads, plays there, and goes on learning."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import agents
from agents import AgentError, DDPGOptions, SACOptions
from agents.rl.trained import Trained
from envs import OpenedTask, Problem, Task
from experiments.run.inputs import agent_options
from experiments.settings.blocks import SettingsError
from pfrl.cost import Budget, CostModel
from pfrl.evaluation.config import Evaluation
from pfrl.graph import trace
from tests.support.tiny import made, shape
from tests.support.toy import ToyTask, opened

SMALL: dict[str, Any] = {"hidden": (16, 16), "batch": 8, "screen": 8}
TOY = Problem(ToyTask(), budget=Budget("macs", 0.5, True))


class Chain(nnx.Module):
    """[N, 4] to 3 logits: three layers, of which two decide; the toy has seven."""

    def __init__(self, rngs: nnx.Rngs):
        self.a, self.b = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
        self.c = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.c(jnp.tanh(self.b(jnp.tanh(self.a(x)))))


@dataclass(frozen=True)
class ChainTask(Task):
    """The chain; the accuracy is the mean kept share."""

    def open(self) -> OpenedTask:
        graph = trace(made(Chain), shape(1, 4))
        costs = CostModel(graph)

        def evaluate(policy):
            kept = [count / 8 for count in policy.counts(graph).values()]
            return Evaluation(float(np.mean(kept)), costs.of(policy), 0.0, False)

        return opened(graph, costs, evaluate)


CHAIN = Problem(ChainTask(), budget=Budget("macs", 0.5, True))


@pytest.mark.parametrize(("name", "kind"), [("ddpg", DDPGOptions), ("sac", SACOptions)])
def test_a_portable_agent_starts_on_another_network(name, kind, tmp_path):
    first = agents.search(name, TOY, 8, 0, options=kind(portable=True, **SMALL))
    file = first.trained.save(tmp_path / "agent.npz")
    loaded = Trained.load(file)
    env: Any = gymnasium.make("pfrl/Compression-v0", problem=CHAIN).unwrapped
    assert loaded.portable and env.steps == 3 and first.trained.arrays
    played = env.decide(loaded.act, 0.5)
    found = agents.search(name, CHAIN, 6, 0, options=kind(carried=str(file), **SMALL))
    # The first episode is the carried actor's, in place of a warm-up.
    assert found.history[0].policy == played
    assert [e.phase for e in found.history] == ["warmup", *["explore"] * 4, "final"]
    # And it went on learning.
    changed = [not np.array_equal(v, loaded.arrays[k]) for k, v in found.trained.arrays.items()]
    assert any(changed) and found.trained.portable


def test_an_agent_that_saw_all_layers_stays_on_its_network(tmp_path):
    first = agents.search("ddpg", TOY, 6, 0, options=DDPGOptions(**SMALL))
    file = str(first.trained.save(tmp_path / "agent.npz"))
    again = agents.search("ddpg", TOY, 3, 1, options=DDPGOptions(carried=file, **SMALL))
    assert again.history[0].policy == first.final.policy
    with pytest.raises(AgentError, match="let it be portable"):
        agents.search("ddpg", CHAIN, 3, 0, options=DDPGOptions(carried=file, **SMALL))
    with pytest.raises(AgentError, match="of another kind"):
        agents.search("sac", TOY, 3, 0, options=SACOptions(carried=file, **SMALL))


def test_the_file_is_found_in_the_folder_of_its_run(tmp_path):
    (tmp_path / "one" / "every-limit").mkdir(parents=True)
    file = tmp_path / "one" / "every-limit" / "agent.npz"
    file.touch()
    for given in (tmp_path / "one", file):
        assert agent_options("td3", False, given).carried == str(file)
    assert agent_options("ddpg", True, None) == DDPGOptions(portable=True)
    assert agent_options("evolution", False, None) is None
    with pytest.raises(SettingsError, match="holds no trained agent"):
        agent_options("ddpg", False, tmp_path / "none")
    with pytest.raises(SettingsError, match="not ppo"):
        agent_options("ppo", True, None)
