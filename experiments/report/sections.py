"""The first half of a run's report: what came out, where the files are, how to run them.

Each function makes Markdown of the run's plain data; a section of which nothing
is known is the empty string.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments.records.wording import (
    DASH,
    bullets,
    cost,
    is_number,
    number,
    percent,
    points,
    section,
    sentence,
    table,
)
from pfrl.tasks import Classification, Wording

Entry = Mapping[str, Any]


def metric_of(report: Entry) -> str:
    """The budget's metric; MACs where there is no budget."""
    return (report.get("budget") or {}).get("metric") or "macs"


def wording_of(report: Entry) -> Wording:
    """How the report speaks of its task; where it names none, it is a classification."""
    return Classification.wording._replace(**report.get("task") or {})


def base_cost(report: Entry) -> float | None:
    """What the uncompressed network costs in the budget's metric, if that is known."""
    known = (report.get("budget") or {}).get("base")
    return known if is_number(known) else (report.get("base") or {}).get(metric_of(report))


class FilePair(NamedTuple):
    """The files that a report is about: those of the runtime whose latency was asked for.

    Attributes:
      base, compressed: what was measured of them; empty where nothing was.
      ratio: of their latencies, with its interval.
      title: what people call the runtime; empty for ONNX Runtime, where nothing else is said.
    """

    base: Entry
    compressed: Entry
    ratio: Entry | None
    title: str


def files_of(report: Entry) -> FilePair:
    """See ``FilePair``."""
    flat = report.get("litert")
    if flat and report.get("latency_runtime") == "litert":
        return FilePair(flat["base"], flat["compressed"], flat["latency_ratio"], "LiteRT")
    ratio = (report.get("comparison") or {}).get("latency_ratio")
    return FilePair(report.get("base") or {}, report.get("compressed") or {}, ratio, "")


def headline(report: Entry) -> str:
    """The title and one sentence: what is gained, and what it costs; what its metric is."""
    said = verdict(report)
    title = f"# `{report.get('model')}` on `{report.get('data')}`, compressed"
    return "\n\n".join(filter(None, (title, said and f"**{said}**", wording_of(report).definition)))


def verdict(report: Entry) -> str:
    """What is gained, and what it costs, in a sentence; empty if nothing is known."""
    base, small = report.get("base") or {}, report.get("compressed") or {}
    files = files_of(report)
    before, after = files.base, files.compressed
    parts = [
        _times_fewer(base.get("macs"), small.get("macs")),
        _speed(before.get("latency_ms"), after.get("latency_ms"), files.ratio, files.title),
        quality_change(report),
        _size(before.get("nbytes"), after.get("nbytes")),
    ]
    said = "; ".join(filter(None, parts))
    return said and f"{sentence(said)}."


def _times_fewer(before: float | None, after: float | None) -> str:
    if not is_number(before) or not is_number(after) or after <= 0:
        return ""
    if before / after < 1.005:
        return "as many MACs as before"
    return f"{before / after:.2f} times fewer MACs"


def _speed(before: Entry | None, after: Entry | None, ratio: Entry | None, title: str = "") -> str:
    """Faster, slower, or neither as far as the interval of the ratio can tell."""
    if not before or not after:
        return ""
    where = f" in {title}" if title else ""
    text = f"{number(before['median'])} → {number(after['median'])} ms per image, measured{where}"
    if not ratio:
        return text
    interval = f"95 % interval {1 / ratio['high']:.2f} to {1 / ratio['low']:.2f}"
    if ratio["low"] <= 1 <= ratio["high"]:
        return f"{text}: no clear change of speed ({1 / ratio['ratio']:.2f} times, {interval})"
    if ratio["ratio"] > 1:
        return f"{text}: slower ({1 / ratio['ratio']:.2f} times as fast, {interval})"
    return f"{text}: {1 / ratio['ratio']:.2f} times as fast ({interval})"


def quality_change(report: Entry) -> str:
    """The base's and the compressed network's on the test split; empty if they are not known."""
    wording = wording_of(report)
    base, small = report.get("base") or {}, report.get("compressed") or {}
    difference = (report.get("comparison") or {}).get("compressed_minus_base")
    before, after = base.get("test_accuracy"), small.get("test_accuracy")
    if not is_number(before) or not is_number(after):
        return ""
    shown = [percent(wording.value(quality)) for quality in (before, after)]
    text = f"test {wording.metric} {' → '.join(shown)}"
    return f"{text} ({_difference(difference, wording)})" if difference else text


def _difference(difference: Entry, wording: Wording) -> str:
    """In points of the metric; what is known is how much higher the quality is."""
    low, high = sorted(wording.change(difference[end]) for end in ("low", "high"))
    change = points(wording.change(difference["difference"]))
    return f"{change} points, 95 % interval {points(low)} to {points(high)}"


def _size(before: float | None, after: float | None) -> str:
    if not is_number(before) or not is_number(after):
        return ""
    return f"file {cost('bytes', before)} → {cost('bytes', after)}"


def result(report: Entry) -> str:
    """The table of the networks, and what the comparisons say."""
    controls, base = report.get("controls") or {}, report.get("base") or {}
    wording = wording_of(report)
    networks = {
        "base": base,
        "**compressed**": report.get("compressed"),
        "control: uniform policy, same budget": controls.get("uniform"),
        "control: base, trained on as long": controls.get("base_trained_on"),
    }
    rows = [_network_row(name, entry, base, wording) for name, entry in networks.items() if entry]
    if not rows:
        return ""
    header = (
        "network",
        f"test {wording.metric}",
        "MACs",
        "parameters",
        "ONNX file",
        "latency, ms (95 % interval)",
        "memory at most",
    )
    return section("Result", table(header, rows), bullets(*_comparisons(report)), _litert(report))


def _litert(report: Entry) -> str:
    """The same networks as LiteRT files: measured in the same turns, so times can be compared."""
    found, wording = report.get("litert") or {}, wording_of(report)
    if not found:
        return ""
    networks = {"base": found["base"], "**compressed**": found["compressed"]}
    rows = [
        (
            name,
            percent(wording.value(entry["test_accuracy"])),
            cost("bytes", entry["nbytes"]),
            _latency(entry["latency_ms"]),
            cost("bytes", entry["memory_bytes"]),
        )
        for name, entry in networks.items()
    ]
    header = (
        "in LiteRT",
        f"test {wording.metric}",
        "LiteRT file",
        "latency, ms (95 % interval)",
        "memory at most",
    )
    speed = _speed(
        found["base"]["latency_ms"], found["compressed"]["latency_ms"], found["latency_ratio"]
    )
    agreement = f"LiteRT and JAX {wording.agreement} {percent(found['agreement'])} of the images"
    return f"{table(header, rows)}\n\n{bullets(sentence(speed) + '.', agreement + '.')}"


def _network_row(name: str, entry: Entry, base: Entry, wording: Wording) -> tuple[str, ...]:
    def with_share(metric: str, key: str) -> str:
        value, whole = entry.get(key), base.get(key)
        if entry is base or not is_number(value) or not is_number(whole) or whole <= 0:
            return cost(metric, value)
        return f"{cost(metric, value)} ({percent(value / whole, 1)})"

    quality = entry.get("test_accuracy")
    return (
        name,
        percent(wording.value(quality) if is_number(quality) else None),
        with_share("macs", "macs"),
        with_share("params", "params"),
        with_share("bytes", "nbytes"),
        _latency(entry.get("latency_ms")),
        cost("bytes", entry.get("memory_bytes")),
    )


def _latency(latency: Entry | None) -> str:
    if not latency:
        return DASH
    median, low, high = (number(latency.get(key)) for key in ("median", "low", "high"))
    return f"{median} ({low} to {high})"


def _comparisons(report: Entry) -> list[str]:
    """A sentence for each control, with no more than its interval allows to say."""
    compared, wording = report.get("comparison") or {}, wording_of(report)
    lines = []
    for key, other in (
        ("compressed_minus_uniform", "the uniform policy of the same budget, fine-tuned alike"),
        ("compressed_minus_base_trained_on", "the base after the same extra training"),
    ):
        if difference := compared.get(key):
            better, worse = difference["low"] > 0, difference["high"] < 0
            verdict = "better" if better else "worse" if worse else "no clear difference"
            lines.append(
                f"Compressed against {other}: {_difference(difference, wording)}: {verdict}."
            )
    if is_number(agreement := compared.get("agreement")):
        lines.append(
            f"ONNX Runtime and JAX {wording.agreement} {percent(agreement)} of the test images."
        )
    return lines


def places(report: Entry, run_dir: Path) -> dict[str, str]:
    """Paths of the files as seen from the report, by their names in 'artefacts'."""
    artefacts = report.get("artefacts") or {}
    return {key: _relative(path, run_dir) for key, path in artefacts.items() if path}


def files(report: Entry, run_dir: Path) -> str:
    """Where everything is."""
    place, packed = places(report, run_dir), report.get("packed") or {}
    size = f" of {cost('bytes', packed['arrays'])}" if packed else ""
    lines = [
        f"[{place[key]}]({place[key]}): {text}"
        for key, text in (
            ("onnx", "the compressed network (ONNX), with integers where it is rounded"),
            ("onnx_base", "the uncompressed network, for comparison"),
            ("litert", "the compressed network for LiteRT, with integers where it is rounded"),
            ("litert_base", "the uncompressed one for LiteRT"),
            (
                "packed",
                f"its arrays{size} at their bit widths: what the budget 'packed' counts",
            ),
            ("policy", "what was decided for each layer"),
        )
        if key in place
    ]
    if "tensorboard" in place:
        lines.append(f"`tensorboard --logdir {place['tensorboard']}` shows the search as curves")
    if not lines:
        return ""
    paths = "All paths are relative to the folder of this report."
    return section("Files", paths, bullets(*lines))


def _relative(path: str, run_dir: Path) -> str:
    """``path`` as seen from ``run_dir``, if it is absolute or starts at the working directory."""
    if os.path.isabs(path) or (os.path.exists(path) and not (run_dir / path).exists()):
        return os.path.relpath(path, run_dir)
    return path
