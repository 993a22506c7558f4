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
    (DDPGOptions, "warmup", 0.3, "warmup is a number from 0 to 0.25, got 0.3"),
    (DDPGOptions, "baseline_decay", 1.5, "baseline_decay is a number from 0 to 1, got 1.5"),
    (DDPGOptions, "noise", "pink", "noise is 'truncated' or 'gaussian', got 'pink'"),
    (DDPGOptions, "noise", "own", "noise is 'truncated' or 'gaussian', got 'own'"),
    (DDPGOptions, "start", "end", "start is 'centre' or 'random', got 'end'"),
    (DDPGOptions, "screen", 0, "screen is a whole number from 1, got 0"),
    (TD3Options, "policy_delay", 0, "policy_delay is a whole number from 1, got 0"),
    (SACOptions, "noise", "pink", "'own' or 'truncated' or 'gaussian', got 'pink'"),
    (SACOptions, "entropy", 0.0, "entropy is a number above 0, got 0.0"),
    (TQCOptions, "drop", 25, "drop is below the 25 quantiles, got 25"),
    (DDPGOptions, "sigma", -0.1, "sigma is a number from 0, got -0.1"),
    (DDPGOptions, "batch", 0, "batch is a whole number from 1, got 0"),
    (PPOOptions, "learning_rate", 0.0, "learning_rate is a number above 0, got 0.0"),
    (PPOOptions, "gae_lambda", float("nan"), "gae_lambda is a number from 0 to 1, got nan"),
])  # fmt: skip
def test_wrong_options_are_refused_in_one_sentence(kind, field, value, message):
    with pytest.raises(AgentError, match=message):
        kind(**{field: value})
