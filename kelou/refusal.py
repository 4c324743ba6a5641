"""What can not be done, for a reason a person can act on: one line in their language, and the exit code a script reads (sysexits.h).

Verbs of the ground raise a Refusal; doors catch it in one place. Anything else that is raised is our own fault.
"""

from __future__ import annotations


class Refusal(Exception):
    """The base of them all: `str(refusal)` is the line."""

    exit = 1


class BadData(Refusal):
    """What was given is not right: an address, a name, a setting (EX_DATAERR)."""

    exit = 65


class NotFound(Refusal):
    """There is no such list, person or post (EX_NOUSER)."""

    exit = 67


class Down(Refusal):
    """Something that is needed does not run (EX_UNAVAILABLE)."""

    exit = 69


class CannotCreate(Refusal):
    """There is one already, or the name can not be taken (EX_CANTCREAT)."""

    exit = 73


class TryAgain(Refusal):
    """Busy now: a lock, a full disk (EX_TEMPFAIL)."""

    exit = 75


class NotPermitted(Refusal):
    """Who asks may not do this, or it may not be done now (EX_NOPERM)."""

    exit = 77


class BadConfiguration(Refusal):
    """The configuration is wrong (EX_CONFIG)."""

    exit = 78
