"""``pfrl measure``: files in their runtimes, side by side."""

from pathlib import Path

from experiments.settings.files import MeasureSettings
from experiments.watch.progress import say
from pfrl.deploy.layer_times import layer_times
from pfrl.deploy.memory import peak_memories
from pfrl.deploy.timing import Measurement, latency_ratio, measure_interleaved

MIB = 2**20


def run(settings: MeasureSettings) -> list[Path]:
    """Measure all files and print what was found, a line each.

    Raises:
      Unavailable: if a runtime is not installed.
      FileError: if a file is missing or cannot be run.
    """
    files = list(settings.files)
    say("measuring memory")  # first, in processes of their own: a damaged file may end one
    memories = peak_memories(files, settings.threads, settings.batch)
    say(f"measuring latency, at most {settings.seconds:g} s")
    measured = measure_interleaved(
        files,
        settings.threads,
        settings.batch,
        settings.seconds,
        precision=settings.precision,
    )
    for path, result, memory in zip(files, measured, memories, strict=True):
        versus = "" if result is measured[0] else f", {_compared(result, measured[0])}"
        print(
            f"{path}: {_latency(result)}{versus}; file {path.stat().st_size:,} bytes, memory at"
            f" most {memory / MIB:.1f} MiB; {result.runtime} {result.runtime_version}"
        )
    print(
        f"batch {settings.batch}, {settings.threads} thread(s), {measured[0].instruction_set},"
        f" {len(measured[0].rounds_ms)} rounds"
    )
    if settings.layers:
        for path in files:
            _print_layers(path, settings)
    return files


def _latency(result: Measurement) -> str:
    return f"{result.median_ms:.4f} ms (95 % interval {result.low_ms:.4f} to {result.high_ms:.4f})"


def _compared(result: Measurement, first: Measurement) -> str:
    ratio = latency_ratio(result, first)
    return f"{ratio.value:.3f} of the first file's ({ratio.low:.3f} to {ratio.high:.3f})"


def _print_layers(path: Path, settings: MeasureSettings) -> None:
    found = layer_times(path, settings.threads, settings.batch)
    if found is None:
        print(f"{path}: LiteRT does not tell the times of operations")
        return
    total = sum(layer.median_ms for layer in found) or 1.0
    print(f"{path}, by operation:")
    for layer in found:
        share = layer.median_ms / total
        print(f"  {layer.median_ms:9.4f} ms  {share:6.1%}  {layer.op:<24} {layer.name}")
