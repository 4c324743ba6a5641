"""What a look at the host or at the DNS finds, with what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `state` is ok, warning, error, or unknown where nobody answers; `fix` says what to do."""

    check: str
    state: str
    detail: str = ""
    fix: str = ""
