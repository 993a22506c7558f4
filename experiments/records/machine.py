"""The machine that numbers were measured on."""

import platform
from pathlib import Path
from typing import TypedDict

from pfrl.cpu import cores
from pfrl.cpu.processor import instruction_set


class Machine(TypedDict):
    """Processor, its vector extensions, and the cores that this process may use."""

    cpu: str
    instruction_set: str
    cores: int


def machine() -> Machine:
    """This machine; the processor as Linux names it, else what Python knows."""
    return {"cpu": _cpu_name(), "instruction_set": instruction_set(), "cores": len(cores())}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()
