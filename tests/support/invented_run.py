"""An invented run for the tests of what people see: a history, a report, a run directory."""

import json

import numpy as np

from experiments.records.history import best_so_far
from pfrl.files import write_json

BASE_MACS, LIMIT = 31_021_440, 15_510_720


def layer_names(blocks):
    inner = [f"layer{s}.{b}.conv{c}" for s in (1, 2, 3) for b in range(blocks) for c in (1, 2)]
    return ["conv1", *inner, "linear"]


def random_policy(rng, blocks, bits):
    names = layer_names(blocks)
    keep = {name: round(float(rng.uniform(0.2, 1)), 4) for name in names if "conv2" not in name}
    del keep["linear"]
    chosen = {name: int(rng.integers(3, 9)) for name in names[1:-1]} if bits else {}
    fixed = {"conv1": 8, **chosen, "linear": 8} if bits else {}
    return {
        "keep": keep,
        "weight_bits": fixed,
        "act_bits": {name: min(8, value + 1) for name, value in fixed.items()},
    }


def episode_line(index, accuracy, macs, *, phase="explore", reward=None, diverged=False, **rest):
    return {
        "episode": index,
        "phase": phase,
        "reward": accuracy if reward is None else reward,
        "accuracy": accuracy,
        "costs": {"macs": macs, "params": 136_000, "bytes": 300_000, "bops": 8e9, "latency": 0.9},
        "seconds": 4.2,
        "diverged": diverged,
        "policy": {"keep": {"conv1": 0.5}, "weight_bits": {}, "act_bits": {}},
        **rest,
    }


def invented_history(episodes=60, blocks=3, bits=False, seed=0):
    """A search that warms up at random, gets better, and loses two episodes to divergence."""
    rng = np.random.default_rng(seed)
    history = []
    for index in range(episodes):
        phase = "warmup" if index < episodes // 4 else "explore"
        phase = "final" if index == episodes - 1 else phase
        skill = 0 if phase == "warmup" else index / episodes
        accuracy = float(np.clip(rng.normal(0.66 + 0.2 * skill, 0.07 * (1.1 - skill)), 0.1, 0.88))
        lost = index in (7, 31)
        spent = rng.uniform(0.7, 1) if phase == "warmup" else min(1, rng.normal(0.985, 0.015))
        history.append(
            episode_line(
                index,
                float("nan") if lost else accuracy,
                int(LIMIT * spent),
                phase=phase,
                reward=-1e3 if lost else (accuracy - 1) * float(np.log(LIMIT * spent)),
                diverged=lost,
                policy=random_policy(rng, blocks, bits),
            )
        )
    return history


def invented_report(history, best):
    def network(accuracy, macs, params, nbytes, median):
        latency = {"median": median, "low": median * 0.98, "high": median * 1.03, "threads": 1}
        return {
            "test_accuracy": accuracy,
            "macs": macs,
            "params": params,
            "nbytes": nbytes,
            "latency_ms": {**latency, "batch": 1, "runtime": "ONNX Runtime 1.32.0, CPU"},
        }

    small = network(0.9271, best["costs"]["macs"], 141_310, 579_112, 0.8617)
    rescored = [
        {
            "episode": episode,
            "search_accuracy": search,
            "rescored_accuracy": held_out,
            "behind_best": {"difference": 0.862 - held_out, "low": low, "high": 0.02},
            "cost": macs,
        }
        for episode, search, held_out, low, macs in (
            (best["episode"], 0.871, 0.862, -0.01, 15_000_000),
            (44, 0.866, 0.858, -0.005, 15_400_000),
            (None, 0.861, 0.801, 0.01, 14_900_000),
        )
    ]
    return {
        "model": "resnet20",
        "data": "fashion_mnist",
        "agent": "ddpg",
        "seed": 0,
        "episodes": len(history),
        "budget": {"metric": "macs", "limit": LIMIT, "achieved": best["costs"]["macs"]},
        "base": network(0.9312, BASE_MACS, 272_186, 1_104_882, 1.4221),
        "compressed": small,
        "controls": {
            "base_trained_on": network(0.9333, BASE_MACS, 272_186, 1_104_882, 1.4189),
            "uniform": network(0.9222, 15_402_336, 135_982, 558_004, 0.8702),
        },
        "search": {
            "seconds": 252.4,
            "seconds_per_episode": 4.2,
            "compilations_after_first_episode": 0,
            "share": {"training": 0.58, "validation": 0.33, "other": 0.09},
            "best_reward": best["reward"],
            "final_actor": {"reward": history[-1]["reward"], "accuracy": history[-1]["accuracy"]},
            "rescored": rescored,
            "rescored_images": 1_000,
            "cheapest_in": "macs",
            "uniform": {"accuracy": 0.801, "costs": {"macs": 15_402_336}},
        },
        "artefacts": {
            "policy": "policy.json",
            "onnx": "model.onnx",
            "onnx_base": "base.onnx",
            "tensorboard": "tb",
        },
        "versions": {"pocketflow-rl": "0.1.0", "jax": "0.10.2", "onnxruntime": "1.32.0"},
        "command": "pfrl compress --model resnet20 --data fashion_mnist --target macs=0.5",
        "machine": {"cpu": "Example CPU 8375C", "instruction_set": "AVX512-VNNI", "cores": 2},
        "notes": ["The uniform policy was fine-tuned as long as the compressed network."],
        "comparison": {
            "compressed_minus_base": {"difference": -0.0041, "low": -0.008, "high": -0.0002},
            "compressed_minus_uniform": {"difference": 0.0049, "low": 0.0009, "high": 0.0089},
            "compressed_minus_base_trained_on": {
                "difference": -0.0062,
                "low": -0.01,
                "high": -0.0024,
            },
            "latency_ratio": {"ratio": 0.606, "low": 0.592, "high": 0.621},
            "agreement": 1.0,
        },
        "input": {
            "shape": [28, 28, 1],
            "mean": [0.286],
            "std": [0.353],
            "classes": ["T-shirt/top", "Trouser", "Pullover", "Dress"],
        },
    }


def write_run(directory, blocks=3, bits=False):
    """A finished run of 60 episodes on a network of 6 × blocks + 2 layers."""
    history = invented_history(blocks=blocks, bits=bits)
    position = best_so_far(history)[-1]
    assert position is not None
    best = history[position]
    write_json(directory / "report.json", invented_report(history, best))
    write_json(directory / "policy.json", best["policy"])
    write_json(directory / "config.json", {"model": "resnet20", "episodes": 60, "seed": 0})
    lines = "".join(json.dumps(line) + "\n" for line in history)
    (directory / "history.jsonl").write_text(lines)
    return directory
