"""An invented study for the tests of what people see: lines, histories of every run, its facts."""

import json

import numpy as np

from pfrl.files import write_json
from tests.support.invented_run import LIMIT, episode_line, random_policy

AGENTS = {"uniform": 0.0, "random": 0.02, "evolution": 0.06, "ddpg": 0.08}
"""By agent, how much better its last episodes are than its first."""


def write_sweep(
    directory, seeds=(0, 1, 2), targets=("macs=0.3", "macs=0.5"), better=0.0, commit="1a2b3c4"
):
    """A finished ``pfrl sweep`` of 20 episodes a search; ``better`` is added to every accuracy."""
    lines = []
    for seed in seeds:
        for target in targets:
            for agent, gain in AGENTS.items():
                name = f"{target}/{agent}/seed-{seed}"
                history = invented_search(agent, seed, 0.6 + better, gain)
                (directory / name).mkdir(parents=True)
                text = "".join(json.dumps(each) + "\n" for each in history)
                (directory / name / "history.jsonl").write_text(text)
                best = max(each["accuracy"] for each in history)
                lines.append({
                    "target": target, "agent": agent, "seed": seed, "episodes": len(history),
                    "search_accuracy": best, "test_accuracy": best - 0.01,
                    "evaluation_seconds": 50.0 + seed, "agent_seconds": 2.0, "folder": name,
                    "runtime": "onnx",
                })  # fmt: skip
    (directory / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    facts = {
        "command": "sweep",
        "settings": {"model": "resnet20", "episodes": 20},
        "machine": {"cpu": "Example CPU", "instruction_set": "avx2", "cores": 2},
        "commands": ["pfrl sweep --model resnet20 --episodes 20"],
        "commits": [commit],
    }
    write_json(directory / "config.json", facts)
    return directory


def invented_search(agent, seed, start, gain):
    """Twenty episodes, one of a rule, that get better on the way."""
    rng = np.random.default_rng([seed, len(agent)])
    count = 1 if agent == "uniform" else 20
    return [
        episode_line(
            index,
            float(start + gain * index / 20 + rng.normal(0, 0.02)),
            int(LIMIT * 0.98),
            policy=random_policy(rng, 3, False),
        )
        for index in range(count)
    ]
