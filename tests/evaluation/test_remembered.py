"""What one run found out about a base network is not asked again by the next."""

from dataclasses import replace

import numpy as np
import pytest

from pfrl.data import Split, load
from pfrl.evaluation.remembered import base_files
from pfrl.tasks.classification import Classification

FOUND = {"onnx": np.asarray([1.0, 0.0]), "litert": np.asarray([1.0, 1.0])}


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """``(ask, calls)``: asks for two files, and notes every time that they are judged."""
    monkeypatch.setenv("PFRL_CACHE", str(tmp_path / "cache"))
    calls = []

    def ask(dataset, test, content=b"network"):
        files = {kind: tmp_path / kind for kind in FOUND}
        for path in files.values():
            path.write_bytes(content)

        def judge():
            calls.append(content)
            return FOUND

        return base_files(dataset, test, files, judge)

    return ask, calls


def test_the_files_of_a_base_network_are_judged_once(asked):
    ask, calls = asked
    dataset = load("digits")
    test = dataset.open_test()
    for _ in range(2):
        found = ask(dataset, test)
        assert {kind: each.tolist() for kind, each in found.items()} == {
            "onnx": [1.0, 0.0],
            "litert": [1.0, 1.0],
        }
    assert len(calls) == 1
    others = [
        (dataset, test, b"another"),
        (dataset, Split(test.images[:-1], test.labels[:-1])),
        (dataset, Split(test.images, test.labels[::-1])),
        (replace(dataset, mean=(0.1,)), test),
    ]
    for number, each in enumerate(others):
        ask(*each)
        assert len(calls) == 2 + number


def test_what_a_task_of_the_users_says_is_asked_again(asked):
    class Own(Classification):
        """Defined outside of the package: what it depends on is not known."""

    ask, calls = asked
    dataset = replace(load("digits"), task=Own())
    for _ in range(2):
        ask(dataset, dataset.open_test())
    assert len(calls) == 2
