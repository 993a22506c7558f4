"""What a run starts from: whether everything that has a name is known, and which weights."""

from pathlib import Path

from agents import AGENTS
from envs.rewards import REWARDS
from experiments.settings.blocks import NetworkBlock
from experiments.settings.compression import NO_TARGET, CompressSettings
from pfrl.cost import Budget
from pfrl.data import UNLABELLED, check_there
from pfrl.models.catalogue import ModelError, check_name
from pfrl.models.network import Network, is_own, no_classes


def check(settings: CompressSettings) -> Path:
    """See to it that everything in resolved settings that has a name is known.

    Returns:
      The weights to start from.

    Raises:
      ValueError: a subclass with a sentence for the user, if it is not.
    """
    _ = AGENTS[settings.agent], REWARDS[settings.reward or ""]
    budget_of(settings)
    return find_weights(settings.network)


def budget_of(settings: CompressSettings) -> Budget | None:
    """The budget that resolved settings describe, if any.

    Raises:
      BudgetError: if the target is no budget.
    """
    assert settings.target is not None, "not resolved"
    return None if settings.target == NO_TARGET else Budget.parse(settings.target)


def needs_latency(settings: CompressSettings) -> bool:
    """Whether the search of resolved settings reads predicted latencies."""
    budget = budget_of(settings)
    needed = "latency" in REWARDS[settings.reward or ""].needs
    return needed or (budget is not None and budget.needs_latency)


def find_weights(network: NetworkBlock) -> Path:
    """The given weights, the network's own, or those that come with the package.

    Raises:
      ModelError, RegistryError, DataError, UserCodeError: if there are none, or no such model or
        data set.
    """
    check_there(network.data)
    if network.data.startswith(UNLABELLED) and not is_own(network.model):
        check_name(network.model)
        raise ModelError(no_classes(network.model))
    return Network.find(network.model, network.data, network.weights).weights
