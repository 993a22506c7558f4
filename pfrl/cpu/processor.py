"""What the processor has: the extensions that numeric libraries choose their kernels by."""

import os
import platform
from pathlib import Path

KNOWN = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
)
"""As Linux names them; asimd is said as neon."""


BY_AMX, BY_AVX512 = ("AMX",), ("BF16", "FP16", "AMX", "AVX10")
"""Parts of the names of what oneDNN may be kept to, with which it still multiplies bfloat16."""


def instruction_set() -> str:
    """The extensions that numeric libraries choose their kernels by, else the machine's name."""
    words = _words()
    found = [name for name in KNOWN if name in words]
    named = ["neon" if name == "asimd" else name for name in found]
    return " ".join(named) or platform.machine()


def multiplies_bfloat16() -> bool:
    """Whether oneDNN multiplies matrices of bfloat16 much faster than those of float32.

    It does with AMX, and on AMD's processors with AVX-512 (Zen 4), where a convolution takes half
    of the time. Intel's instruction for it without AMX was not tried. It does not where oneDNN's
    own switch, ``ONEDNN_MAX_CPU_ISA``, keeps it to what older processors have.
    """
    words, limit = _words(), os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if "amx_bf16" in words:
        parts = BY_AMX
    elif "avx512_bf16" in words and "AuthenticAMD" in words:
        parts = BY_AVX512
    else:
        return False
    return limit in ("", "ALL", "DEFAULT") or any(part in limit for part in parts)


def has_matrix_units() -> bool:
    """Whether there is AMX."""
    return "amx_bf16" in _words()


def _words() -> set[str]:
    cpuinfo = Path("/proc/cpuinfo")
    return set(cpuinfo.read_text().split()) if cpuinfo.is_file() else set()
