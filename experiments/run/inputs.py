"""What a run starts from: whether everything that has a name is known, and which weights."""

from pathlib import Path
from typing import Any

from agents import AGENTS, PPOOptions
from agents.rl.options import OffPolicyOptions
from envs.rewards import REWARDS
from experiments.records.run_folder import AGENT_FILE
from experiments.settings.blocks import NetworkBlock, SettingsError
from experiments.settings.compression import NO_TARGET, CompressSettings
from pfrl.cost import Budget
from pfrl.data import UNLABELLED, check_there
from pfrl.deploy.runtimes.base import file_runtime
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
    file_runtime(settings.space.latency_runtime).version()
    agent_options(settings.agent, settings.portable, settings.agent_from)
    return find_weights(settings.network)


def agent_options(agent: str, portable: bool, carried: Path | None, parallel: int = 1) -> Any:
    """The options that settings give an agent; None if they are its defaults.

    Args:
      agent: its name.
      portable: whether it can be carried over to other networks.
      carried: a trained one's file, or the folder of the run that trained it.
      parallel: episodes side by side, of PPO.

    Raises:
      SettingsError: if it takes no such options, or no trained agent is in the folder.
    """
    if parallel > 1:
        return PPOOptions(parallel=parallel)
    if carried is None and not portable:
        return None
    kind = AGENTS[agent].options
    if kind is None or not issubclass(kind, OffPolicyOptions):
        raise SettingsError(
            f"--portable and --agent-from are for ddpg, td3, sac or tqc, not {agent}"
        )
    return kind(portable=portable, carried=None if carried is None else str(_agent_file(carried)))


def _agent_file(path: Path) -> Path:
    found = [each for each in (path, path / AGENT_FILE) if each.is_file()]
    found = found or sorted(path.rglob(AGENT_FILE))
    if len(found) != 1:
        how = "no trained agent" if not found else f"{len(found)} trained agents"
        raise SettingsError(f"{path} holds {how}; give one {AGENT_FILE}, or the folder of its run")
    return found[0]


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
