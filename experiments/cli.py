"""The command line ``pfrl``: errors of the user's are one sentence and exit code 2.

Help and wrong options need no library that is slow to load: a command's settings are read first,
and what carries it out is imported after that, in the command's function and nowhere else.
"""

import argparse
import errno
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from experiments.settings import options
from experiments.settings.blocks import CommandSettings
from experiments.settings.compilation_cache import use_compilation_cache
from experiments.watch.interrupts import INTERRUPTED, delivered, end_quietly
from experiments.watch.outputs import flush, reader_may_leave
from experiments.watch.progress import say
from pfrl.registry import load_plugins

USER_ERROR = 2
OURS = ("pfrl", "envs", "agents", "experiments")
"""How the packages begin whose error classes are meant for the user; plugins are pfrl_user_..."""

Settings = TypeVar("Settings", bound=CommandSettings)
Read = Callable[[type[Settings]], Settings]
"""Makes the settings from the command line's options."""


def compress(read: Read) -> Sequence[Path]:
    """Compress a trained network: search a policy, fine-tune, export, measure, report."""
    from experiments.settings.compression import CompressSettings

    settings = read(CompressSettings)
    from experiments.run import inputs

    inputs.check(settings)
    from experiments.run import compression

    return compression.run(settings)


def apply(read: Read) -> Sequence[Path]:
    """Carry out a policy without a search: slice, fine-tune, export, measure, report."""
    from experiments.settings.applying import ApplySettings

    settings = read(ApplySettings)
    from experiments.run import applying

    return applying.run(settings)


def pretrain(read: Read) -> Sequence[Path]:
    """Train a network, for 'compress' to start from."""
    from experiments.settings.training import PretrainSettings

    settings = read(PretrainSettings)
    from experiments.run import pretrain

    return [pretrain.run(settings)]


def inspect(read: Read) -> Sequence[Path]:
    """Show a network's layers, channel groups, costs, and what cannot be removed and why."""
    from experiments.settings.inspection import InspectSettings

    settings = read(InspectSettings)
    from experiments.report import inspection

    paths = inspection.run(settings)
    if not settings.json:
        return paths
    print(*paths, sep="\n", end="\n" if paths else "", file=sys.stderr)
    return []  # standard output is the document alone


def methods(read: Read) -> Sequence[Path]:
    """Compare the compression methods on one network after the same fine-tuning."""
    from experiments.studies.methods.settings import MethodsSettings

    settings = read(MethodsSettings)
    from experiments.studies.methods import comparison

    return comparison.run(settings)


def sweep(read: Read) -> Sequence[Path]:
    """Compare searchers with equal evaluation budgets, targets and seeds."""
    from experiments.studies.sweep.settings import SweepSettings

    settings = read(SweepSettings)
    from experiments.studies.sweep import searches

    return searches.run(settings)


def proxy(read: Read) -> Sequence[Path]:
    """Compare the ranks that short evaluations give to policies with those after long training."""
    from experiments.studies.proxy.settings import ProxySettings

    settings = read(ProxySettings)
    from experiments.studies.proxy import scores

    return scores.run(settings)


def pareto(read: Read) -> Sequence[Path]:
    """Search at several limits of one metric, and keep what is best in accuracy and costs."""
    from experiments.studies.pareto.settings import ParetoSettings

    settings = read(ParetoSettings)
    from experiments.studies.pareto import front

    return front.run(settings)


def pick(read: Read) -> Sequence[Path]:
    """Take a policy for a limit, or for a loss, from a finished run or study, at once."""
    from experiments.studies.pareto.settings import PickSettings

    settings = read(PickSettings)
    from experiments.studies.pareto import pick

    return pick.run(settings)


def tune(read: Read) -> Sequence[Path]:
    """Search the hyper-parameters of a compression with Optuna, beginning with the defaults."""
    from experiments.studies.tune.settings import TuneSettings

    settings = read(TuneSettings)
    from experiments.studies.tune import trials

    return [trials.run(settings)]


def ablate(read: Read) -> Sequence[Path]:
    """Repeat experiments of papers, with seeds and intervals; --list tells which there are."""
    from experiments.ablations.settings import AblateSettings

    settings = read(AblateSettings)
    if settings.list:
        from experiments.ablations import listing

        print(listing.as_json(settings.seeds) if settings.json else listing.as_text(settings.seeds))
        return []
    from experiments.ablations import run

    return run.run(settings)


def launch(read: Read) -> Sequence[Path]:
    """Run experiments of papers or your own on all cores of this machine, or on a Ray cluster."""
    return ablate(read)


def report(read: Read) -> Sequence[Path]:
    """Report on runs and studies: tables with intervals, curves and policies on one page."""
    from experiments.settings.files import ReportSettings

    settings = read(ReportSettings)
    from experiments.report import reporting

    return reporting.run(settings)


def export(read: Read) -> Sequence[Path]:
    """Write the network of a finished run again: ONNX, LiteRT, packed or for JAX; float or int8."""
    from experiments.settings.files import ExportSettings

    settings = read(ExportSettings)
    from experiments.run.shipped import exporting

    return exporting.run(settings)


def measure(read: Read) -> Sequence[Path]:
    """Measure files in their runtimes, in turns: latency, size and memory."""
    from experiments.settings.files import MeasureSettings

    settings = read(MeasureSettings)
    from experiments.run.shipped import measuring

    return measuring.run(settings)


COMMANDS: dict[str, Callable[[Read], Sequence[Path]]] = {
    command.__name__: command
    for command in (
        compress,
        apply,
        pretrain,
        inspect,
        methods,
        sweep,
        proxy,
        pareto,
        pick,
        tune,
        ablate,
        launch,
        report,
        export,
        measure,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    Args:
      arguments: those of the program, if None.
    """
    # TensorBoard's thread reports a full disk by itself; the main thread says it in a sentence.
    threading.excepthook = _quiet_thread
    # tyro warns of ambiguous defaults only where there is nothing for a user to do.
    warnings.filterwarnings("ignore", module="tyro")
    with reader_may_leave():
        code = _told(sys.argv[1:] if arguments is None else list(arguments))
    if arguments is None:
        end_quietly()
    return code


def _told(arguments: list[str]) -> int:
    """Run a command, and say in a sentence what was wrong with it; returns the exit code."""
    try:
        with delivered():
            try:
                _run(arguments)
            except KeyboardInterrupt:
                print(
                    "pfrl: interrupted; what was finished is kept, go on with the same command",
                    file=sys.stderr,
                )
                return INTERRUPTED
        flush()
        return 0
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"pfrl: {_sentence(error)}", file=sys.stderr)
        return USER_ERROR


def _run(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        "pfrl", description="Compress neural networks: search, fine-tune, export, measure, report."
    )
    parser.add_argument("--version", action="version", version=f"pfrl {version('pocketflow-rl')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.__doc__, add_help=False)
    # Only the word that names the command; its options are tyro's.
    name = parser.parse_args(arguments[:1]).command
    load_plugins(_plugin_files(arguments))
    paths = COMMANDS[name](lambda kind: _read(kind, name, arguments[1:]))
    for path in paths:
        print(path)


def _read(kind: type[Settings], name: str, arguments: list[str]) -> Settings:
    """The settings of a command; what it computes with is ready after that."""
    settings, session = options.read(kind, name, arguments, COMMANDS[name].__doc__ or "")
    cache = session.compilation_cache
    if str(cache) != "none":
        use_compilation_cache(None if cache is None else Path(cache))
    say("loading JAX")
    from pfrl.cpu import keep_memory

    keep_memory()
    if (launch := getattr(settings, "launch", None)) is not None and launch.ray is not None:
        from experiments.launch.address import check_answers

        check_answers(launch.ray)
    return settings


def _plugin_files(arguments: list[str]) -> tuple[Path, ...]:
    """Files after ``--plugin``: run before settings are read, which may name what they bring."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin", action="append", type=Path, nargs="?", default=[])
    return tuple(filter(None, parser.parse_known_args(arguments)[0].plugin))


def _sentence(error: ValueError | OSError | ArithmeticError) -> str:
    """What a user is told.

    Raises:
      Exception: the error itself, if it is not one of the user's.
    """
    name = type(error).__name__
    if isinstance(error, OSError):
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise error
        return f"{error}; free some space or choose another place"
    package = type(error).__module__.split(".")[0]
    if not package.startswith(OURS):
        raise error
    if name == "Diverged":
        return f"the training diverged: {error}; lower the learning rate"
    return str(error)


def _quiet_thread(arguments: threading.ExceptHookArgs) -> None:
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)


if __name__ == "__main__":
    sys.exit(main())
