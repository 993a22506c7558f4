"""How often XLA compiled in this process: the search must not, after its first episode."""

import jax

_EVENT = "/jax/core/compile/backend_compile_duration"
_count = 0


def _listen(event: str, duration_secs: float, **_: str | int) -> None:
    global _count
    _count += event == _EVENT


jax.monitoring.register_event_duration_secs_listener(_listen)


def compilations() -> int:
    """Backend compilations since this module was imported."""
    return _count
