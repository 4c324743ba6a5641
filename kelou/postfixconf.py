"""Postfix' configuration for Kelou: the templates of postfix-conf/, filled in. The sandbox uses them, and what installs on a real host.

A template's own placeholder is `%{name}`, since `$name` is Postfix'.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from pathlib import Path

SERVICE = "kelou"  # the service in master.cf that hands posts to the LMTP handler
REINJECTION = "KELOU"  # milter_macro_daemon_name of the re-injection port: what the milter signs

_TEMPLATES = Path(__file__).with_name("postfix-conf")


class _Template(string.Template):
    delimiter = "%"


def render(name: str, **values: object) -> str:
    """A template of postfix-conf/ with these values. A placeholder without a value is a KeyError."""
    return _Template((_TEMPLATES / name).read_text("utf-8")).substitute(values)


def main(domains: Iterable[str], sockets: str) -> str:
    """The parameters for main.cf, for these list domains; `sockets` is the folder of the sockets as seen from the queue directory."""
    names = sorted(domains)
    return render(
        "main.cf",
        domains=", ".join(names),
        transports=_inline((name, f"{SERVICE}:unix:{sockets}/lmtp.sock") for name in names),
        reasons=_inline((name, "kelou_reason") for name in names),
        sockets=sockets,
    )


def master(reinjection: str, personal: str, sockets: str) -> str:
    """The services for master.cf; `reinjection` and `personal` are HOST:PORT of the services that take what lists send."""
    return render("master.cf", reinjection=reinjection.ljust(22), personal=personal.ljust(22), sockets=sockets, daemon=REINJECTION)


def _inline(pairs: Iterable[tuple[str, str]]) -> str:
    """The inside of an inline: map (DATABASE_README). An empty one is an error to Postfix, hence a name that no mail has."""
    return ", ".join(f"{{ {key} = {value} }}" for key, value in pairs) or "{ invalid = invalid }"
