"""The command line ``pfrl``: errors of the user's are one sentence and exit code 2."""

import errno
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TextIO

import tyro

from experiments.report import inspection as inspect
from experiments.report.run_report import write_report
from experiments.run import compression as compress
from experiments.run import pretrain
from experiments.settings.compression import CompressSettings
from experiments.studies.methods import comparison as methods
from experiments.studies.pareto import front as pareto
from experiments.studies.proxy import scores as proxy
from experiments.studies.sweep import searches as sweep
from experiments.studies.tune import trials as tune
from experiments.watch.interrupts import delivered
from pfrl.cpu import keep_memory
from pfrl.deploy.timing import measure
from pfrl.training.fit import Diverged

USER_ERROR = 2
INTERRUPTED = 130


def compress_command(settings: Annotated[CompressSettings, tyro.conf.arg(name="")]) -> None:
    """Compress a trained network: search a policy, fine-tune, export, measure, report."""
    _print_paths(compress.run(settings))


def pretrain_command(
    settings: Annotated[pretrain.PretrainSettings, tyro.conf.arg(name="")],
) -> None:
    """Train a network of the zoo, for 'compress' to start from."""
    _print_paths([pretrain.run(settings.resolved())])


def methods_command(
    settings: Annotated[methods.MethodsSettings, tyro.conf.arg(name="")],
) -> None:
    """Compare the compression methods on one network after the same fine-tuning."""
    _print_paths([methods.run(settings)])


def sweep_command(
    settings: Annotated[sweep.SweepSettings, tyro.conf.arg(name="")],
) -> None:
    """Compare searchers from the same purse: the same evaluations, budgets and seeds."""
    _print_paths(sweep.run(settings))


def proxy_command(
    settings: Annotated[proxy.ProxySettings, tyro.conf.arg(name="")],
) -> None:
    """Compare the ranks that short evaluations give to policies with those after long training."""
    _print_paths(proxy.run(settings))


def pareto_command(
    settings: Annotated[pareto.ParetoSettings, tyro.conf.arg(name="")],
) -> None:
    """Search at several limits of one metric, and keep what is best in accuracy and costs."""
    _print_paths(pareto.run(settings))


def tune_command(
    settings: Annotated[tune.TuneSettings, tyro.conf.arg(name="")],
) -> None:
    """Search the hyper-parameters of a compression with Optuna, beginning with the defaults."""
    _print_paths([tune.run(settings)])


def inspect_command(
    settings: Annotated[inspect.InspectSettings, tyro.conf.arg(name="")],
) -> None:
    """Show a network's layers, channel groups, costs, and what cannot be removed and why."""
    paths = inspect.run(settings)
    # Standard output is the document alone.
    _print_paths(paths, sys.stderr if settings.json else sys.stdout)


def report_command(run_dir: tyro.conf.Positional[Path]) -> None:
    """Write report.md and its pictures again from the files of a run directory.

    Args:
        run_dir: a directory that 'compress' wrote.
    """
    _print_paths([write_report(run_dir)])


def measure_command(
    onnx: tyro.conf.Positional[Path], threads: int = 1, batch: int = 1, seconds: float = 2.0
) -> None:
    """Measure the latency of an ONNX file in ONNX Runtime.

    Args:
        onnx: the file.
        threads: threads inside an operation.
        batch: images a run.
        seconds: time spent on measuring.
    """
    result = measure(onnx, threads, batch, seconds)
    print(
        f"{result.median_ms:.4f} ms (95 % interval {result.low_ms:.4f} to {result.high_ms:.4f}),"
        f" batch {batch}, {threads} thread(s), {result.runtime} {result.runtime_version},"
        f" {result.instruction_set}"
    )
    _print_paths([onnx])


COMMANDS: dict[str, Callable[..., None]] = {
    "compress": compress_command,
    "pretrain": pretrain_command,
    "inspect": inspect_command,
    "methods": methods_command,
    "sweep": sweep_command,
    "proxy": proxy_command,
    "pareto": pareto_command,
    "tune": tune_command,
    "report": report_command,
    "measure": measure_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    # TensorBoard's thread reports a full disk by itself; the main thread says it in a sentence.
    threading.excepthook = _quiet_thread
    keep_memory()
    # tyro warns of ambiguous defaults only where there is nothing for a user to do.
    warnings.filterwarnings("ignore", module="tyro")
    try:
        with delivered():
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="pfrl", description=__doc__, args=arguments
            )
    except KeyboardInterrupt:
        print(
            "pfrl: interrupted; what was finished is kept, go on with the same command",
            file=sys.stderr,
        )
        return INTERRUPTED
    except ValueError as error:
        if not _is_ours(error):
            raise
        print(f"pfrl: {error}", file=sys.stderr)
        return USER_ERROR
    except Diverged as error:
        print(f"pfrl: the training diverged: {error}; lower the learning rate", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        print(f"pfrl: {error}; free some space or choose another place", file=sys.stderr)
        return USER_ERROR
    return 0


def _is_ours(error: ValueError) -> bool:
    """Whether it is one of the project's own error classes, whose text is meant for the user."""
    package = type(error).__module__.split(".")[0]
    return package in ("pfrl", "envs", "agents", "experiments")


def _quiet_thread(arguments: threading.ExceptHookArgs) -> None:
    if not isinstance(arguments.exc_value, OSError):
        threading.__excepthook__(arguments)


def _print_paths(paths: Sequence[Path], stream: TextIO | None = None) -> None:
    for path in paths:
        print(path, file=stream)


if __name__ == "__main__":
    sys.exit(main())
