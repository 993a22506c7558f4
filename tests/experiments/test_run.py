"""A whole run: its report, going on after a kill, the same again, the test split read once."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.cli import INTERRUPTED
from experiments.records.history import read_history
from experiments.run import compression as compress
from experiments.run import recorded
from experiments.settings.blocks import LengthBlock, SettingsError, SpaceBlock
from experiments.settings.compression import CompressSettings, FinishConfig
from pfrl.compression.recipe import Recipe
from pfrl.cost import BudgetError
from pfrl.data import Dataset
from pfrl.deploy.packed.pack import unpack
from pfrl.deploy.runtimes.litert import LiteRTSession
from pfrl.evaluation.config import EpisodeConfig
from pfrl.files import load_arrays

ROOT = Path(__file__).resolve().parents[2]
EPISODE = EpisodeConfig(steps=1, batch=16, search_images=60, statistics_images=16, validation="xla")
FINISH = FinishConfig(epochs=0.1, seconds=0.1, candidates=2, rescore_steps=2)
MEASURED = {
    "seconds", "seconds_per_episode", "share", "latency_ms", "latency_ratio", "memory_bytes",
}  # fmt: skip


def settings(out: Path, **changes) -> CompressSettings:
    length = LengthBlock(8)
    plain = CompressSettings(length=length, episode=EPISODE, finish=FINISH, out=out)
    return dataclasses.replace(plain, **changes)


def without_measurements(value):
    """A report or a history without what is measured anew."""
    if isinstance(value, dict):
        return {k: without_measurements(v) for k, v in value.items() if k not in MEASURED}
    return [without_measurements(v) for v in value] if isinstance(value, list) else value


def results(run: Path):
    """Everything that two equal runs have in common."""
    report = json.loads((run / "report.json").read_text())
    compilations = report["search"].pop("compilations_after_first_episode")
    assert compilations == 0
    return (
        without_measurements(read_history(run / "history.jsonl")),
        json.loads((run / "policy.json").read_text()),
        without_measurements(report),
    )


def test_a_budget_is_checked_against_the_recipe_s_files(tmp_path):
    """At 2 bits ResNet-8 takes 7.98 % of its bytes on a grid, and with codebooks 8.16 %."""
    out, codebooks = tmp_path / "run", Recipe(weights="codebook")
    space = SpaceBlock(knobs=("weight_bits",))
    with pytest.raises(BudgetError, match=r"the network still has .* \(8\.2% of the base\)"):
        compress.run(settings(out, target="packed=0.081", space=space, recipe=codebooks))
    assert not out.exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    compress.run(settings(out))
    return out


def test_the_report_says_what_was_asked_for(whole):
    report = json.loads((whole / "report.json").read_text())
    entry = {"test_accuracy", "macs", "params", "nbytes", "memory_bytes", "latency_ms"}
    assert {
        "model",
        "data",
        "agent",
        "seed",
        "episodes",
        "budget",
        "base",
        "compressed",
        "controls",
        "search",
        "artefacts",
        "versions",
        "command",
    } <= set(report)
    assert {"metric", "limit", "achieved"} <= set(report["budget"])
    assert set(report["base"]) == set(report["compressed"]) == entry
    assert report["controls"] == {}
    (note,) = report["notes"]
    assert note.startswith("No controls were trained: with `--controls`")
    assert "control:" not in (whole / "report.md").read_text()
    assert report["compressed"]["macs"] <= report["budget"]["limit"] <= report["base"]["macs"] / 2
    assert report["comparison"]["agreement"] == 1.0
    assert report["search"]["compilations_after_first_episode"] == 0
    formats = {"onnx", "onnx_base", "litert", "litert_base"}
    assert formats | {"policy", "packed", "tensorboard"} == set(report["artefacts"])
    packed = whole / report["artefacts"]["packed"]
    assert report["packed"]["file"] == packed.stat().st_size
    assert set(unpack(packed)) == set(load_arrays(whole / "networks" / "compressed.npz")[0])
    assert report["compressed"]["nbytes"] == (whole / report["artefacts"]["onnx"]).stat().st_size
    flat = report["litert"]
    assert set(flat["base"]) == set(flat["compressed"]) == entry
    assert flat["agreement"] == 1.0
    assert flat["compressed"]["test_accuracy"] == report["compressed"]["test_accuracy"]
    assert flat["compressed"]["nbytes"] == (whole / "model.tflite").stat().st_size
    assert flat["latency_ratio"]["low"] <= flat["latency_ratio"]["high"]
    page = (whole / "report.md").read_text()
    assert "| in LiteRT |" in page and "## How to ship it" in page
    latency = report["compressed"]["latency_ms"]
    assert 0 < latency["low"] <= latency["median"] <= latency["high"]
    assert (latency["threads"], latency["batch"]) == (1, 1)
    for picture in ("search.png", "policy.png", "tradeoff.png"):
        assert (whole / picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.ci
def test_controls_are_in_the_report(tmp_path):
    """With the uniform policy handed over there is one training less."""
    compress.run(settings(tmp_path, agent="uniform", length=LengthBlock(1), controls=True))
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["controls"]) == {"base_trained_on", "uniform"}
    entry = set(report["compressed"])
    assert all(set(control) == entry for control in report["controls"].values())
    assert report["controls"]["uniform"]["macs"] <= report["budget"]["limit"]
    assert (tmp_path / "report.md").read_text().count("| control: ") == 2


def test_a_rounded_network_is_handed_over_with_integers(tmp_path):
    space = SpaceBlock(knobs=("weight_bits", "act_bits"))
    options = {"agent": "uniform", "length": LengthBlock(1), "space": space}
    compress.run(settings(tmp_path, target="bops=0.05", **options))
    report = json.loads((tmp_path / "report.json").read_text())
    flat = report["litert"]
    assert flat["compressed"]["nbytes"] < 0.7 * flat["base"]["nbytes"]
    assert flat["agreement"] > 0.95
    assert LiteRTSession(tmp_path / "model.tflite").logits(np.zeros((2, 8, 8, 1))).shape == (2, 10)
    assert "compute with int8" in (tmp_path / "report.md").read_text()


def test_the_same_seed_makes_the_same_run(whole, tmp_path):
    compress.run(settings(tmp_path / "run"))
    assert results(tmp_path / "run") == results(whole)


def test_an_interrupted_run_ends_as_an_uninterrupted_one(whole, tmp_path, monkeypatch):
    out, append = tmp_path / "run", recorded.append_line

    def interrupt(history, line):
        append(history, line)
        if line["episode"] == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(recorded, "append_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compress.run(settings(out))
    monkeypatch.undo()
    with open(out / "history.jsonl", "a") as stream:
        stream.write('{"episode": 5, "phase": "exp')  # what a kill in mid-line leaves
    compress.run(settings(out))
    assert results(out) == results(whole)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(signal.SIGKILL, marks=pytest.mark.ci),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_process_loses_at_most_its_episode(sent, whole, tmp_path):
    out = tmp_path / "run"
    options = {
        "episodes": 8,
        "episode.steps": EPISODE.steps,
        "episode.batch": EPISODE.batch,
        "episode.search-images": EPISODE.search_images,
        "episode.statistics-images": EPISODE.statistics_images,
        "episode.validation": EPISODE.validation,
        "finish.epochs": FINISH.epochs,
        "finish.seconds": FINISH.seconds,
        "finish.candidates": FINISH.candidates,
        "finish.rescore-steps": FINISH.rescore_steps,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "experiments", "compress", *words, "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while len(read_history(out / "history.jsonl")) < 2 and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.kill(process.pid, sent)
        _, told = process.communicate()
    if sent == signal.SIGINT:
        assert process.returncode == INTERRUPTED
        assert told.splitlines()[-1] == (
            "pfrl: interrupted; what was finished is kept, go on with the same command"
        )
        # Going on is the same after an interrupt and after a kill.
        kept = without_measurements(read_history(out / "history.jsonl"))
        assert 2 <= len(kept) <= 8 and kept == results(whole)[0][: len(kept)]
        return
    compress.run(settings(out))
    assert results(out)[:2] == results(whole)[:2]


def test_a_run_is_not_overwritten(whole):
    with pytest.raises(SettingsError, match="seed was 0"):
        compress.run(settings(whole, seed=1))


def test_the_test_split_is_read_once_after_the_search(tmp_path, monkeypatch):
    opened, out = [], tmp_path / "run"
    original = Dataset.__init__

    def counting(self, *args, **kwargs):
        original(self, *args, **kwargs)
        open_test = self.open_test

        def counted():
            # A data set made of another one opens that one's: the same reading, by its length.
            split = open_test()
            if not any(split is again for again, _ in opened):
                opened.append((split, len(read_history(out / "history.jsonl"))))
            return split

        object.__setattr__(self, "open_test", counted)

    monkeypatch.setattr(Dataset, "__init__", counting)
    from envs.problem import _open
    from envs.task import load_network

    _open.cache_clear()
    load_network.cache_clear()
    try:
        compress.run(settings(out, agent="random"))
    finally:
        _open.cache_clear()
        load_network.cache_clear()
    assert [episodes for _, episodes in opened] == [8]


@pytest.mark.ci
def test_a_diverging_episode_is_recorded_with_the_lowest_reward(tmp_path):
    wild = dataclasses.replace(EPISODE, learning_rate=1e30, steps=3)
    compress.run(settings(tmp_path / "run", agent="random", length=LengthBlock(3), episode=wild))
    history = read_history(tmp_path / "run" / "history.jsonl")
    assert [line["diverged"] for line in history] == [True] * 3
    assert [line["reward"] for line in history] == [0.0] * 3
    assert np.isfinite([line["reward"] for line in history]).all()


@pytest.mark.ci
@pytest.mark.parametrize("agent", ["ppo", "uniform"])
def test_other_agents_play_the_same_number_of_episodes(agent, tmp_path):
    compress.run(settings(tmp_path / "run", agent=agent))
    history = read_history(tmp_path / "run" / "history.jsonl")
    assert [line["episode"] for line in history] == list(range(8))
    limit = json.loads((tmp_path / "run" / "report.json").read_text())["budget"]["limit"]
    assert all(line["costs"]["macs"] <= limit for line in history)
