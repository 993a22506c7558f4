"""What a run answers to the objective that it was given: what was asked, measured, and kept.

The same words are at the end of ``pfrl compress`` on the terminal, and in its report.
"""

from experiments.records.wording import (
    bullets,
    cost,
    cost_phrase,
    described,
    is_number,
    noun_of,
    percent,
    points,
    section,
    table,
)
from experiments.report.sections import (
    Entry,
    base_cost,
    files_of,
    metric_of,
    wording_of,
)

QUARTER = 0.25
"""Of the base's bytes, which ``--prefer both`` asks for."""
UNIFORM = (
    " It is the uniform policy, the same share of every layer: the search's network lost more at"
    " this limit."
)


def answer(report: Entry) -> str:
    """The section of a report: a line each for the question, what was found, and what to do."""
    lines = answer_lines(report)
    return section("Answer", bullets(*lines), _limits(report)) if lines else ""


def answer_lines(report: Entry) -> list[str]:
    """The sentences, of a run with a budget or with a loss that is allowed; else there are none."""
    lines = _of_drop(report, report["drop"]) if report.get("drop") else _of_budget(report)
    return [*lines, *_of_size(report)] if report.get("prefer") == "both" else lines


def _of_budget(report: Entry) -> list[str]:
    budget = report.get("budget") or {}
    limit, achieved = budget.get("limit"), budget.get("achieved")
    if not is_number(limit):
        return []
    metric, base = metric_of(report), base_cost(report)
    share = f" ({percent(limit / base, 1)} of the base)" if base else ""
    lines = [f"Asked for: at most {cost_phrase(metric, limit)}{share}."]
    if metric == "latency":
        return [*lines, *_of_latency(report, limit, achieved, base)]
    if is_number(achieved) and limit > 0:
        kept = "kept" if achieved <= limit else "not kept"
        lines.append(
            f"Got: {cost(metric, achieved)}, {percent(achieved / limit, 1)} of it: {kept}."
        )
    return [*lines, *_of_no_speed(report, metric)]


def _of_no_speed(report: Entry, metric: str) -> list[str]:
    """What to do about a network with fewer MACs that is no faster: kernels work on channels in
    blocks, often of 8 or 16, and a block that is half empty takes as long as a full one."""
    ratio = files_of(report).ratio
    if metric != "macs" or not ratio or ratio["high"] < 1:
        return []
    return [
        f"Fewer MACs are no less time here: the file takes {percent(ratio['ratio'], 1)} of the"
        " base's. A limit of the time itself, `--prefer speed` or `--target latency=0.5`, finds"
        " counts of channels that are fast on this machine."
    ]


def _of_latency(
    report: Entry, limit: float, achieved: float | None, base: float | None
) -> list[str]:
    """A latency is measured on the file, in turns with the base's, and compared as a share."""
    lines = []
    if is_number(achieved) and limit > 0:
        lines.append(
            f"Predicted: {cost('latency', achieved)}, {percent(achieved / limit, 1)} of it."
        )
    _, _, ratio, title = files_of(report)
    if not ratio or not base:
        return lines
    asked, where = limit / base, f" in {title}" if title else ""
    measured = (
        f"Measured on the file{where}: {percent(ratio['ratio'], 1)} of the base's latency"
        f" (95 % interval {percent(ratio['low'], 1)} to {percent(ratio['high'], 1)})"
    )
    if ratio["high"] <= asked:
        return [*lines, f"{measured}: kept."]
    if ratio["low"] <= asked:
        return [*lines, f"{measured}: kept as far as the interval can tell."]
    lower = asked * asked / ratio["ratio"]
    return [
        *lines,
        f"{measured}: not kept.",
        f"To come below it, ask for less, such as `--target latency={lower:.2g}`, or search for"
        " longer with `--episodes`.",
    ]


def _of_size(report: Entry) -> list[str]:
    """What ``--prefer both`` asks of the file besides the latency."""
    files = files_of(report)
    share = files.compressed["nbytes"] / files.base["nbytes"]
    kept = "kept" if share <= QUARTER else "not kept"
    lines = [
        f"Asked for besides: a quarter of the base's bytes. The file has {percent(share, 1)} of"
        f" them: {kept}."
    ]
    if share > QUARTER:
        lines.append(
            "What describes the network takes most of a small file; fewer channels, with"
            " `--target bytes=0.2`, make it smaller."
        )
    return lines


def _of_drop(report: Entry, drop: Entry) -> list[str]:
    wording, metric = wording_of(report), drop["metric"]
    noun, most = noun_of(metric), 100 * drop["allowed"]
    allowed = f"{most:g} point{'' if most == 1 else 's'}"
    found = next(one for one in drop["tried"] if one["share"] == drop["share"])
    images, sure = f"{drop['held_out_images']:,} held-out images", percent(drop["confidence"], 0)
    lines = [
        f"Asked for: the network of the smallest {noun} that is at most {allowed} of"
        f" {wording.metric} worse than the base, with {sure} confidence.",
        f"Got: at most {percent(drop['share'], 1)} of the base's {noun}, the"
        f" {'lowest that kept it' if drop['kept'] else 'highest'} of {len(drop['tried'])} limits"
        f" that were tried. On {images} it is {_loss(found['difference']['difference'])} the base,"
        f" and with {sure} confidence no more than"
        f" {points(max(-found['difference']['low'], 0.0)).lstrip('+')} points worse:"
        f" {'kept' if drop['kept'] else 'not kept'}."
        + (UNIFORM if found.get("network") == "uniform" else ""),
    ]
    difference = (report.get("comparison") or {}).get("compressed_minus_base")
    if difference:
        kept = "kept" if difference["difference"] >= -drop["allowed"] - 1e-9 else "not kept"
        lines.append(
            f"On the test images, which nothing was chosen by, the file is"
            f" {_loss(difference['difference'])} the base: {kept}."
        )
    if not drop["kept"]:
        lines.append(
            "To keep it, allow a larger `--max-drop` or less `--confidence`, train for longer with"
            " `--finish.epochs`, search for longer with `--episodes`, or have more images in the"
            " search split: few images leave a wide interval."
        )
    return lines


def _limits(report: Entry) -> str:
    """The limits that were tried for a loss that is allowed."""
    drop, wording = report.get("drop"), wording_of(report)
    if not drop:
        return ""
    cells = [
        (
            percent(tried["share"], 1),
            "the uniform policy's" if tried.get("network") == "uniform" else "the search's",
            points(tried["difference"]["difference"]),
            points(tried["difference"]["low"]),
            "yes" if tried["kept"] else "no",
        )
        for tried in sorted(drop["tried"], key=lambda one: -one["share"])
    ]
    text = (
        f"Limits of {described(drop['metric']).title} were tried from the base's cost down. At each"
        " the network of the search was trained, and where it lost too much on the images of the"
        " rewards the uniform policy's too; the better one was judged on held-out images."
    )
    header = ("limit", "network", f"{wording.metric} (points)", "at least", "kept")
    return f"{text}\n\n{table(header, cells, 2)}"


def _loss(difference: float) -> str:
    if abs(difference) < 5e-5:
        return "as good as"
    word = "better" if difference > 0 else "worse"
    return f"{points(abs(difference)).lstrip('+')} points {word} than"
