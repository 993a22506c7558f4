"""A trained agent as plain arrays: its actor plays without PyTorch, its training can go on.

The file is an ``.npz`` of the networks' parameters, by the names that stable-baselines3 gives
them; nothing in it is executed.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.base import AgentError
from pfrl.files import FileError, load_arrays, save_arrays

ACTORS = ("actor.mu.", "actor.latent_pi.", "mlp_extractor.policy_net.", "action_net.")
"""How the parameters of an actor's layers begin, of all the agents."""
KIND = "trained agent"


class Trained(NamedTuple):
    """What a search's agent has become.

    Attributes:
      arrays: parameters of actor, critics and their targets, by name.
      between: what stands between an actor's layers: ``relu`` or ``tanh``.
      bound: what keeps its actions in [-1, 1]: ``clip`` or ``tanh``.
      portable: whether it sees only what is as long for every network.
    """

    arrays: dict[str, np.ndarray]
    between: str
    bound: str
    portable: bool

    def act(self, observation: np.ndarray) -> np.ndarray:
        """The deterministic actor's actions ``[..., K]`` for whole observations ``[..., D]``."""
        names = [name for name in self.arrays if name.startswith(ACTORS) and "weight" in name]
        # Of SAC the last layer is called as DDPG's whole actor.
        names.sort(key=lambda name: name in ("actor.mu.weight", "action_net.weight"))
        x = observation[..., : self.arrays[names[0]].shape[1]] if self.portable else observation
        for place, name in enumerate(names):
            if place:
                x = np.maximum(x, 0) if self.between == "relu" else np.tanh(x)
            x = x @ self.arrays[name].T + self.arrays[name.replace("weight", "bias")]
        return np.clip(x, -1, 1) if self.bound == "clip" else np.tanh(x)

    def put_into(self, model: Any) -> None:
        """Let an agent of stable-baselines3 that has learned nothing yet go on from here.

        Raises:
          AgentError: if its networks are of other shapes.
        """
        import torch

        own = {name: tuple(value.shape) for name, value in model.policy.state_dict().items()}
        mine = {name: value.shape for name, value in self.arrays.items()}
        if own != mine:
            raise AgentError(
                "the trained agent is of another kind, or saw networks of another number of layers;"
                " take the same kind of agent, and let it be portable when it is trained"
            )
        arrays = {name: torch.from_numpy(np.array(value)) for name, value in self.arrays.items()}
        model.policy.load_state_dict(arrays)

    def save(self, path: Path) -> Path:
        """Write ``path``, an ``.npz``.

        Raises:
          FileError: if it cannot be written.
        """
        facts = {"between": self.between, "bound": self.bound, "portable": self.portable}
        return save_arrays(path, self.arrays, {"kind": KIND, **facts})

    @classmethod
    def load(cls, path: Path) -> "Trained":
        """What ``save`` wrote.

        Raises:
          FileError: if there is no such file, or it is something else.
        """
        arrays, facts = load_arrays(path)
        if facts.pop("kind", None) != KIND:
            raise FileError(f"{path} holds no trained agent; expected the agent.npz of a search")
        return cls(arrays, **facts)


def trained(model: Any, portable: bool) -> Trained:
    """What an agent of stable-baselines3 has become."""
    policy = model.policy
    stochastic = hasattr(policy, "action_net")  # PPO
    inverts = not hasattr(policy, "actor") or _inverts(policy.actor)
    arrays = {name: value.numpy().copy() for name, value in policy.state_dict().items()}
    return Trained(
        arrays,
        between="tanh" if stochastic else "relu",
        bound="clip" if inverts else "tanh",
        portable=portable,
    )


def _inverts(actor: Any) -> bool:
    last = list(actor.mu.modules())[-1]
    return type(last).__name__ == "InvertingGradients"
