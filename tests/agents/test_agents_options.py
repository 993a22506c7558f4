"""Wrong agents and options are refused where they enter."""

import pytest

from agents import (
    AgentError,
    DDPGOptions,
    PPOOptions,
    SACOptions,
    TD3Options,
    TQCOptions,
    search,
)
from pfrl.registry import RegistryError


@pytest.mark.parametrize(("arguments", "message"), [
    (("ppo", None, 0, 0), "at least 1 episode, got 0"),
    (("ppo", None, 5, 0, None, None, DDPGOptions()), "ppo takes PPOOptions, got DDPGOptions"),
    (("ddpg", None, 5, 0, None, None, TD3Options()), "ddpg takes DDPGOptions, got TD3Options"),
    (("random", None, 5, 0, None, None, PPOOptions()), "random takes no options, got PPOOptions"),
])  # fmt: skip
def test_wrong_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(AgentError, match=message):
        search(*arguments)


def test_an_unknown_agent_is_refused():
    with pytest.raises(RegistryError, match="unknown agent 'a2c'; expected one of cmaes, ddpg, "):
        search("a2c", None, 5, 0)


@pytest.mark.parametrize(("kind", "field", "value", "message"), [
    (DDPGOptions, "warmup", 0.3, "warmup is 0.3; choose a value from 0 to 0.25"),
    (DDPGOptions, "baseline_decay", 1.5, "baseline_decay is 1.5; choose a value from 0 to 1"),
    (DDPGOptions, "noise", "pink", "choose 'truncated' or 'gaussian'"),
    (DDPGOptions, "noise", "own", "noise is 'own'; choose 'truncated' or 'gaussian'"),
    (DDPGOptions, "start", "end", "start is 'end'; choose 'centre' or 'random'"),
    (DDPGOptions, "screen", 0, "screen is 0; choose a value above 0"),
    (TD3Options, "policy_delay", 0, "policy_delay is 0; choose a value above 0"),
    (SACOptions, "noise", "pink", "choose 'own', 'truncated' or 'gaussian'"),
    (SACOptions, "entropy", 0.0, "entropy is 0.0; choose a value above 0"),
    (TQCOptions, "drop", 25, "drop is 25; choose 0 to 24"),
    (DDPGOptions, "sigma", -0.1, "choose 0 .* or more"),
    (DDPGOptions, "batch", 0, "batch is 0; choose a value above 0"),
    (PPOOptions, "learning_rate", 0.0, "learning_rate is 0.0; choose a value above 0"),
    (PPOOptions, "gae_lambda", float("nan"), "gae_lambda is nan"),
])  # fmt: skip
def test_wrong_options_are_refused_in_one_sentence(kind, field, value, message):
    with pytest.raises(AgentError, match=message):
        kind(**{field: value})
