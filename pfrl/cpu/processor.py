"""What the processor has: the extensions that numeric libraries choose their kernels by."""

import os
import platform
from pathlib import Path

KNOWN = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
)
"""As Linux names them; asimd is said as neon."""


def instruction_set() -> str:
    """The extensions that numeric libraries choose their kernels by, else the machine's name."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
    found = [name for name in KNOWN if name in words]
    named = ["neon" if name == "asimd" else name for name in found]
    return " ".join(named) or platform.machine()


def multiplies_bfloat16() -> bool:
    """Whether oneDNN multiplies matrices of bfloat16 much faster than those of float32 (AMX).

    It does not where its own switch, ``ONEDNN_MAX_CPU_ISA``, keeps it to what older processors
    have.
    """
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    kept = limit in ("", "ALL", "DEFAULT") or "AMX" in limit
    return kept and "amx_bf16" in instruction_set().split()
