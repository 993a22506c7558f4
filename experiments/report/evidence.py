"""The second half of a run's report: what was decided, how it was found and measured.

Each function makes Markdown of the run's plain data; a section of which nothing
is known is the empty string.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.records.history import Line, is_sound
from experiments.records.wording import (
    DASH,
    bullets,
    code_block,
    cost,
    described,
    details,
    duration,
    is_number,
    number,
    percent,
    points,
    section,
    sentence,
    table,
)
from experiments.report.pictures import PHASES
from experiments.report.policy_picture import quantized_layers
from experiments.report.sections import Entry, metric_of, wording_of
from pfrl.deploy.runtimes.base import RUNTIMES
from pfrl.tasks import Wording

FOLD_ABOVE = 30
"""A table of layers with more rows is folded."""


def layers(report: Entry, policy: Entry | None, picture: str) -> str:
    """The policy as a picture and as a table.

    With ``report["layers"]`` (``[{"layer", "groups", "channels", "kept",
    "macs_base", "macs"}]``) a row is a layer; without it, a row is a name of
    the policy. A layer whose channels are of several groups names all of them.
    """
    if policy is None:
        return ""
    rows = report.get("layers")
    listing = _layer_table(rows, policy) if rows else _policy_table(policy)
    explained = (
        "A channel group is a set of channels, often of several layers, that can only be removed"
        " together."
    )
    return section(
        "What was decided, layer by layer",
        picture,
        explained if policy.get("keep") else "",
        listing,
    )


def _layer_table(rows: Sequence[Entry], policy: Entry) -> str:
    bits = quantized_layers(policy)
    header = ["layer", "channel groups", "channels", "kept", "MACs before", "after"]
    cells = [
        [
            f"`{row['layer']}`",
            " + ".join(f"`{group}`" for group in row["groups"]) or "fixed",
            str(row["channels"]),
            f"{row['kept']} ({percent(row['kept'] / row['channels'], 0)})",
            cost("macs", row.get("macs_base")),
            cost("macs", row.get("macs")),
            *(_bits(policy, row["layer"]) if bits else []),
        ]
        for row in rows
    ]
    return _folded(header + (["weight bits", "activation bits"] if bits else []), cells, 2)


def _policy_table(policy: Entry) -> str:
    keep, bits = policy.get("keep") or {}, quantized_layers(policy)
    header = ["channel group or layer", *(["kept"] if keep else [])]
    cells = [
        [
            f"`{name}`",
            *([percent(keep.get(name), 0)] if keep else []),
            *(_bits(policy, name) if bits else []),
        ]
        for name in dict.fromkeys([*keep, *bits])
    ]
    return _folded(header + (["weight bits", "activation bits"] if bits else []), cells, 1)


def _bits(policy: Entry, layer: str) -> list[str]:
    values = [(policy.get(key) or {}).get(layer) for key in ("weight_bits", "act_bits")]
    return [DASH if bits is None else "float" if bits >= 32 else str(bits) for bits in values]


def _folded(header: Sequence[str], cells: Sequence[Sequence[str]], left: int) -> str:
    if not cells:
        return ""
    listing = table(header, cells, left)
    return details(f"All {len(cells)} rows", listing) if len(cells) > FOLD_ABOVE else listing


def search(
    report: Entry, history: Sequence[Line], chosen: int | None, shown: Mapping[str, str]
) -> str:
    """How the search went; ``shown`` holds the Markdown of the pictures that were drawn."""
    facts = report.get("search") or {}
    metric, wording = metric_of(report), wording_of(report)
    lines = [_spent(report, facts, wording), _phases(history)]
    taken = None if chosen is None else history[chosen]["episode"]
    if chosen is not None:
        line = history[chosen]
        lines.append(
            f"Handed over: episode {line['episode']} (reward {number(line['reward'])}, search"
            f" {_named(line['accuracy'], wording)}, {cost(metric, line['costs'].get(metric))})."
        )
    elif any(row["episode"] is None for row in facts.get("rescored") or ()):
        why = (
            "the table of limits in the answer" if report.get("drop") else "the table of candidates"
        )
        lines.append(f"Handed over: the uniform policy; {why} says why.")
    if final := facts.get("final_actor"):
        lines.append(
            "The agent's own choice at the end, without exploration: reward"
            f" {number(final.get('reward'))}, search {_named(final.get('accuracy'), wording)}"
            f" (best reward of all episodes: {number(facts.get('best_reward'))})."
        )
    return section(
        "How the search went",
        bullets(*lines),
        shown.get("search", ""),
        shown.get("tradeoff", ""),
        _rescored(facts, taken, wording, bool(report.get("drop"))),
    )


def _named(quality: float | None, wording: Wording) -> str:
    """``accuracy 92.47 %``."""
    return f"{wording.metric} {_shown(quality, wording)}"


def _shown(quality: float | None, wording: Wording) -> str:
    return percent(wording.value(quality) if is_number(quality) else None)


def _spent(report: Entry, facts: Entry, wording: Wording) -> str:
    if not is_number(facts.get("seconds")):
        return ""
    episodes = report.get("episodes")
    text = f"Agent `{report.get('agent')}`, seed {report.get('seed')}: {episodes} episodes in"
    text += f" {duration(facts['seconds'])}, {duration(facts.get('seconds_per_episode'))} each"
    if share := facts.get("share"):
        parts = (f"{name} {percent(part, 0)}" for name, part in share.items() if is_number(part))
        text += f" ({', '.join(parts)})"
    if (compiled := facts.get("compilations_after_first_episode")) is not None:
        text += f"; compilations after the first episode: {compiled or 'none'}"
    return text + "." + _judge(facts, wording)


def _judge(facts: Entry, wording: Wording) -> str:
    """Which runtime judged the episodes, and by which measurement it was chosen."""
    judge = facts.get("judge")
    if not judge:
        return ""
    seconds = judge["seconds"].items()
    pairs = (f"{_title(name)} {number(1000 * s)} ms" for name, s in seconds)
    measured = f" (a batch of images: {', '.join(pairs)})" if seconds else ""
    if (difference := judge.get("difference")) is not None:
        change = points(wording.change(difference))
        measured += f"; {wording.metric} of the same network {change} points to XLA's"
    if judge.get("agreement") is not None:
        measured += f"; it answers {judge['agreement']:.1%} of the images as XLA's simulation does"
    return f" Judged by {_title(judge['runtime'])}{measured}."


def _title(runtime: str) -> str:
    return RUNTIMES[runtime].title if runtime in RUNTIMES else runtime


def _phases(history: Sequence[Line]) -> str:
    counts = Counter(line["phase"] for line in history)
    parts = [f"{counts[phase]} × {mark.label}" for phase, mark in PHASES.items() if counts[phase]]
    if not parts:
        return ""
    lost = sum(not is_sound(line) for line in history)
    return f"Episodes: {', '.join(parts)}; {lost or 'none'} diverged."


def _rescored(facts: Entry, taken: int | None, wording: Wording, best: bool) -> str:
    """The candidates and why one of them was ``taken``: an episode, or None, the uniform policy.

    Args:
      facts: of the search.
      taken: which.
      wording: of the task.
      best: whether the search's best is trained, however little it leads, instead of the cheapest
        of those that are as good.
    """
    rows, images = facts.get("rescored"), facts.get("rescored_images")
    if not rows:
        return ""
    metric = facts["cheapest_in"]
    cells = [
        (
            ("uniform policy" if row["episode"] is None else f"{row['episode']}")
            + (" (handed over)" if row["episode"] == taken else ""),
            _shown(row["search_accuracy"], wording),
            _shown(row["rescored_accuracy"], wording),
            _behind(row["behind_best"], wording) if row["behind_best"] else "best",
            cost(metric, row["cost"]),
        )
        for row in rows
    ]
    text = (
        "The best of many is flattered by its own selection. So the policies with the highest"
        " rewards were judged again, after a longer fine-tuning and on"
    )
    if best:
        text += (
            f" the {images} images of the rewards: the held-out ones are left to what is promised."
            " The best but the uniform policy was trained: the limit says what is cheap."
        )
    else:
        text += (
            f" {images} held-out images of the search split, which no reward had used."
            " Candidates that cannot be told apart from the best one by these images (the 95 %"
            " interval of the difference includes 0) count as equal: of them the cheapest in"
            f" {described(metric).title} was handed over."
        )
    judged_on = f"on {images} {'' if best else 'held-out '}images"
    header = ("episode", f"{wording.metric} in the search", judged_on, "against the best (points)")
    return f"{text}\n\n{table((*header, described(metric).title), cells)}"


def _behind(difference: Entry, wording: Wording) -> str:
    """``−1.39 (−4.20 to +1.42)`` of the metric, where the best's quality is higher by that much."""
    low, high = sorted(wording.change(0.0 - difference[end]) for end in ("low", "high"))
    change = points(wording.change(0.0 - difference["difference"]))
    return f"{change} ({points(low)} to {points(high)})"


def measured(report: Entry) -> str:
    """Machine, runtime, splits and intervals."""
    machine = report.get("machine") or {}
    small = report.get("compressed") or report.get("base") or {}
    latency = small.get("latency_ms") or {}
    flat = ((report.get("litert") or {}).get("compressed") or {}).get("latency_ms") or {}
    runtimes = " and ".join(filter(None, (latency.get("runtime"), flat.get("runtime"))))
    lines = []
    if machine:
        lines.append(
            f"Machine: {machine.get('cpu')}, {_count(machine.get('cores'), 'core')},"
            f" {machine.get('instruction_set')}."
        )
    if latency:
        lines.append(
            f"Latency: {runtimes}, batch {latency.get('batch')},"
            f" {_count(latency.get('threads'), 'thread')}; median and its 95 % interval. The"
            " networks ran in turns in one process, so whatever else the machine did met all of"
            " them."
        )
    if (report.get("compressed") or {}).get("test_accuracy") is not None:
        metric = wording_of(report).metric
        interval = (report.get("comparison") or {}).get("interval") or "Agresti and Min (2005)"
        lines += [
            f"{sentence(metric)}: of the ONNX file, on the test images, which nothing else has"
            " read: networks are trained on one split, and the search is judged on another.",
            f"Differences of {metric}: paired over the test images; 95 % interval after"
            f" {interval}.",
            "ONNX file: its size on disk. MACs: multiply-accumulates of one image.",
        ]
    return section("How it was measured", bullets(*lines))


def _count(number: int | None, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


RIGHT_EVERYWHERE = (
    "Every processor computes the ONNX file right: any two products of its weights with uint8 fit"
    " into 16 bits."
)
RIGHT_WITH_VNNI = (
    "The ONNX file is for processors with VNNI (x86 since Ice Lake and Zen 4) and for ARM. On x86"
    " without VNNI, ONNX Runtime cuts off sums of two products that exceed 16 bits; for these use"
    " the LiteRT file, which is right everywhere, or compress with `--int8 portable`."
)


def notes(report: Entry, policy: Entry | None) -> str:
    """What the reader must know before quoting a number."""
    lines = list(report.get("notes") or [])
    if policy is not None and quantized_layers(policy):
        lines.insert(
            0,
            "Bits are simulated in training and in the reward, where the files round. Layers whose"
            " kernel and input have 8 bits or fewer compute with int8 in the ONNX and the LiteRT"
            " file; fewer than 8 save no time there, and bytes in the packed file alone. Layers of"
            " which either has 32 bits are float32.",
        )
        integers = report.get("integers") or {}
        if integers:
            lines.insert(1, RIGHT_EVERYWHERE if integers["right_everywhere"] else RIGHT_WITH_VNNI)
    return section("Notes", bullets(*lines))


def reproduce(report: Entry, config: Any) -> str:
    """The command, the versions, the configuration."""
    command, versions = report.get("command"), report.get("versions")
    parts = [code_block(command, "sh") if command else ""]
    if versions:
        rows = [(name, str(version)) for name, version in versions.items()]
        parts.append(details("Versions", table(("package", "version"), rows, 2)))
    if config is not None:
        parts.append(details("Configuration", code_block(json.dumps(config, indent=2), "json")))
    return section("To repeat it", *parts)
