"""SPF: whether a client may send for the domain of a reverse-path (RFC 7208), by pyspf.

pyspf asks through our resolver, and sees no record that is longer than records are: its expressions take quadratic time, and it evaluates
what a stranger published.
"""

from __future__ import annotations

import ipaddress
import re
from contextvars import ContextVar
from typing import Any

import spf

from .address import AddressError, parse
from .resolver import Dns, Trouble

RECORD = 4_096  # octets; RFC 7208 section 3.4 advises 512
TERM = 512  # octets in one mechanism or modifier
SECONDS = 20  # RFC 7208 section 4.6.4

_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,253}")
_asked: ContextVar[Dns] = ContextVar("asked")


def check(client_ip: str, reverse_path: str, helo: str, asked: Dns) -> str:
    """The result for MAIL FROM (RFC 7208 section 2.6): pass, fail, softfail, neutral, none, permerror or temperror.

    The null reverse-path is "none": it belongs to no author. Never raises for what a client or a zone says.
    """
    try:
        sender = parse(reverse_path)
        client = str(ipaddress.ip_address(client_ip.removeprefix("IPv6:")))
    except (AddressError, ValueError):
        return "none"
    token = _asked.set(asked)
    try:
        query = spf.query(client, f"{sender.local}@{sender.host}", helo if _HELO.fullmatch(helo) else "unknown", querytime=SECONDS)
        result, _code, _text = query.check()
    except Trouble:
        return "temperror"
    except Exception:  # pyspf lets out ValueError, AssertionError, … for what a stranger published
        return "permerror"
    finally:
        _asked.reset(token)
    return str(result)


def _lookup(name: str, rdtype: str, strict: object = None, timeout: float = 0) -> list[tuple[tuple[str, str], Any]]:
    """pyspf's way to ask: ((name, type), data) for each record."""
    try:
        records = _asked.get().lookup(name, rdtype)
    except Trouble as trouble:
        raise spf.TempError(str(trouble)) from trouble
    found = (_data(rdtype, record) for record in records)
    return [((name, rdtype), data) for data in found if data is not None]


def _data(rdtype: str, record: Any) -> Any:
    if rdtype in ("A", "AAAA"):
        return record.address
    if rdtype == "MX":
        return record.preference, record.exchange.to_text(omit_final_dot=True)
    if rdtype == "PTR":
        return record.target.to_text(omit_final_dot=True)
    text = b"".join(record.strings)
    if len(text) > RECORD or any(len(term) > TERM for term in text.split(b" ")):
        if text[:7].lower() == b"v=spf1 ":
            raise spf.PermError("the record is too long")
        return None
    return record.strings


spf.DNSLookup = _lookup
