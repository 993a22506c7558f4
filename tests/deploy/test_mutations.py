"""Damaged files: what reads them ends with a sentence, whatever is in them."""

import numpy as np
import pytest

from benchmarks.files.mutations import READERS, Worker, mutated, mutated_json, read, whole_files


@pytest.fixture(scope="module")
def files():
    return whole_files()


@pytest.mark.parametrize(("kind", "count"), [("packed", 150), ("json", 150)])
def test_packed_and_policy_files(kind, count, files, tmp_path):
    """In this process: nothing of them reaches a runtime."""
    change = mutated_json if kind == "json" else mutated
    outcomes = set()
    for number in range(count):
        rng = np.random.default_rng([3, number])
        path = tmp_path / f"m.{kind}"
        path.write_bytes(change(files[kind][number % 2], rng))
        found = read(READERS[kind][0], path)
        assert found.right, (number, found)
        outcomes.add(found.how)
    assert "refused" in outcomes


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_files_of_runtimes(kind, files, tmp_path):
    """In another process, which a runtime may end."""
    worker = Worker()
    try:
        for number in range(20):
            path = tmp_path / f"m.{kind}"
            path.write_bytes(mutated(files[kind][number % 2], np.random.default_rng([4, number])))
            for reader in READERS[kind]:
                found = worker.read(reader, path)
                assert found.right, (number, found)
    finally:
        worker.end()
