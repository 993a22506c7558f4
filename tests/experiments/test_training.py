"""Trainings in full: side by side as one after the other, and going on after a kill."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from envs import NetworkTask
from experiments.cli import main
from experiments.run import training
from experiments.run.compression import stages
from experiments.run.training import STAGE, Training, fit_config, tell_length, train_all
from experiments.settings.compression import CompressSettings, FinishConfig
from pfrl.compression.policy import Policy
from pfrl.compression.sliced import compress
from pfrl.evaluation.validation import split_search
from pfrl.files import load_arrays
from tests.support.tiny import stripes

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "pfrl" / "models" / "pretrained" / "resnet8_digits.npz"


def one_core(monkeypatch):
    monkeypatch.setattr(training, "cores", lambda: [0])


def two_cores(monkeypatch):
    monkeypatch.setattr(training, "cores", lambda: [0, 1])


@pytest.mark.slow  # the controls of a whole run are trained so, too
def test_trainings_side_by_side_end_as_one_after_the_other(tmp_path, monkeypatch, capsys):
    task = NetworkTask("resnet8", "digits", str(WEIGHTS))
    graph = task.network()[1]
    small = compress(graph.source, Policy.uniform(graph, 0.3), graph=graph)
    finish = FinishConfig(epochs=0.5)

    def trained(place):
        jobs = [
            Training(name, task, which, finish, 0, tmp_path / place)
            for name, which in (("compressed", small), ("base_trained_on", None))
        ]
        return train_all(jobs, pytest.fail)

    one_core(monkeypatch)
    alone = trained("alone")
    whole = re.compile(r"training: (\d+)/\1 steps, in ")
    assert whole.search(capsys.readouterr().err)
    two_cores(monkeypatch)
    together = trained("together")
    assert whole.search(capsys.readouterr().err)
    assert set(alone) == set(together) == {"compressed", "base_trained_on"}
    for name, arrays in alone.items():
        assert all(np.array_equal(together[name][key], value) for key, value in arrays.items())
    monkeypatch.setattr(training, "_side_by_side", pytest.fail)  # what is finished is read back
    assert set(trained("together")) == set(alone)


def test_no_epochs_leave_the_network_as_it_was_prepared(tmp_path, capsys):
    task = NetworkTask("resnet8", "digits", str(WEIGHTS))
    graph = task.network()[1]
    small = compress(graph.source, Policy.uniform(graph, 0.5), graph=graph)
    finish = FinishConfig(epochs=0)
    jobs = [Training("compressed", task, small, finish, 0, tmp_path)]
    found = train_all(jobs, pytest.fail)["compressed"]
    assert found.keys() == small.variables.keys()
    for name, value in small.variables.items():
        np.testing.assert_array_equal(found[name], value)
    dataset = task.network()[0]
    settings = CompressSettings(finish=finish).resolved()
    assert STAGE not in [planned.name for planned in stages(settings, dataset, 6)]
    tell_length(finish, dataset)
    assert "will not be trained" in capsys.readouterr().err


def test_images_that_are_held_out_do_not_judge_a_training(tmp_path, monkeypatch):
    task = NetworkTask("resnet8", "digits", str(WEIGHTS))
    dataset, graph = task.network()
    small = compress(graph.source, Policy.uniform(graph, 0.5), graph=graph)
    seen = []

    def fit(apply, variables, *others, plateau, **more):
        plateau.quality(variables)
        return variables

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(training, "mean_quality", lambda _, __, split: seen.append(split) or 0.5)
    for name, rewarded in (("whole", None), ("part", 90)):
        jobs = [Training(name, task, small, FinishConfig(), 0, tmp_path, rewarded=rewarded)]
        train_all(jobs, pytest.fail)
    whole, *_, part = seen
    np.testing.assert_array_equal(whole.images, dataset.search.images)
    np.testing.assert_array_equal(part.images, split_search(dataset.search, 90)[0].images)


def test_a_training_that_makes_a_network_worse_leaves_it_as_it_was(tmp_path, monkeypatch):
    task = NetworkTask("resnet8", "digits", str(WEIGHTS))
    graph = task.network()[1]
    small = compress(graph.source, Policy.uniform(graph, 0.9), graph=graph)

    def fit(apply, variables, *others, **more):
        return {name: np.zeros_like(value) for name, value in variables.items()}

    monkeypatch.setattr(training, "fit", fit)
    notes = []
    jobs = [Training("compressed", task, small, FinishConfig(), 0, tmp_path)]
    for _ in range(2):  # the second time it is read back
        found = train_all(jobs, notes.append)["compressed"]
        for name, value in small.variables.items():
            np.testing.assert_array_equal(found[name], value)
    assert len(notes) == 2
    assert all(note.startswith("The training of 'compressed' made it worse") for note in notes)


COMMAND = """compress --episodes 2 --episode.steps 1 --episode.batch 16 --episode.search-images 60
 --episode.statistics-images 16 --episode.validation xla --finish.epochs 12 --finish.seconds 0.1
 --finish.candidates 1 --finish.rescore-steps 1 --controls --out""".split()


# Processes that it starts run the first lines, too.
SAVES_ALWAYS = """
import sys
from experiments.cli import main
from pfrl.training import checkpoint
checkpoint.SECONDS = 0.0
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_controls_go_on_after_a_kill(sent, tmp_path, monkeypatch):
    one_core(monkeypatch)
    assert main([*COMMAND, str(tmp_path / "whole")]) == 0
    networks = tmp_path / "killed" / "networks"
    script = tmp_path / "saves_always.py"
    script.write_text(SAVES_ALWAYS)
    command = [sys.executable, str(script), *COMMAND, str(tmp_path / "killed")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while not list(networks.glob("*.checkpoint.npz")) and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
    finally:
        os.kill(process.pid, sent)
        process.communicate()
    two_cores(monkeypatch)
    assert main([*COMMAND, str(tmp_path / "killed")]) == 0
    names = {path.name for path in networks.glob("*.npz")}
    assert names == {path.name for path in (tmp_path / "whole" / "networks").glob("*.npz")}
    for name in names:
        found, _ = load_arrays(networks / name)
        expected, _ = load_arrays(tmp_path / "whole" / "networks" / name)
        assert all(np.array_equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("images", "steps"),
    [
        (64, training.FEWEST_STEPS),
        (64 * 20, 20 * training.ENOUGH_EPOCHS),
        (64 * 80, training.ENOUGH_STEPS),
        (64 * 200, 200 * training.FEWEST_EPOCHS),
    ],
)
def test_steps_follow_the_size_of_the_data(images, steps):
    dataset = stripes(train=images, search=8)
    config = fit_config(FinishConfig(), dataset, 0)
    assert training.steps_of(config, dataset) == steps
    assert fit_config(FinishConfig(epochs=2.5), dataset, 0).epochs == 2.5
