"""The time of every operation of a file, where its runtime tells it, as ONNX Runtime does."""

import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pfrl.deploy.runtimes.base import AT_ONCE

_KERNEL = "_kernel_time"


class LayerTime(NamedTuple):
    """An operation as the runtime runs it, after its own fusing."""

    name: str
    op: str
    median_ms: float


def layer_times(
    path: Path | str, threads: int = 1, batch: int = 1, seconds: float = 1.0
) -> list[LayerTime] | None:
    """The median time of every operation, in the order of their execution.

    Noting the times takes time, so their sum is more than the network's.

    Args:
      path: a ``.onnx`` or a ``.tflite`` file.
      threads: threads inside an operation.
      batch: images in a run.
      seconds: how long the network is run.

    Returns:
      None for a runtime that does not tell times of operations (LiteRT's interface for Python).

    Raises:
      FileError: if the file is missing or cannot be run.
    """
    if Path(path).suffix == ".tflite":
        return None
    from pfrl.deploy.runtimes.onnxruntime import Session

    with tempfile.TemporaryDirectory() as folder:
        session = Session(path, threads, profile=Path(folder) / "profile")
        images = session.random_images(batch, np.random.default_rng(0))
        end = time.perf_counter() + seconds
        session.logits(images, AT_ONCE)
        while time.perf_counter() < end:
            session.logits(images, AT_ONCE)
        events = json.loads(session.end_profiling().read_text())
    times: dict[str, list[float]] = {}
    ops: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"].removesuffix(_KERNEL)
            times.setdefault(name, []).append(event["dur"] / 1e3)
            ops[name] = event["args"]["op_name"]
    return [LayerTime(name, ops[name], float(np.median(each))) for name, each in times.items()]
