"""Opening a file in the runtime that its name says: ``.tflite`` in LiteRT, else ONNX Runtime."""

from pathlib import Path

from pfrl.deploy.runtimes.base import Session


def open_session(path: Path | str, threads: int = 1) -> Session:
    """A network in its runtime, ready to run.

    Args:
      path: a ``.onnx`` or a ``.tflite`` file.
      threads: threads inside an operation.

    Raises:
      Unavailable: if the runtime is not installed.
      FileError: if the file is missing or no network that the runtime can load.
    """
    if Path(path).suffix == ".tflite":
        from pfrl.deploy.runtimes.litert import LiteRTSession

        return LiteRTSession(path, threads)
    from pfrl.deploy.runtimes.onnxruntime import Session as ONNXSession

    return ONNXSession(path, threads)
