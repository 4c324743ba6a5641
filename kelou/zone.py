"""The DNS records that a list domain needs, so that its mail is believed: MX, SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 9989)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from . import signing
from .config import Config
from .i18n import N_, _


@dataclass(frozen=True, slots=True)
class Record:
    """A record to publish: its full name without the final dot, its data as a person types it, and what it is for."""

    name: str
    type: str
    data: str
    why: str

    @property
    def line(self) -> str:
        """The record as a line of a zone file (RFC 1035 section 5.1)."""
        return f"{self.name}.\t3600\tIN\t{self.type}\t{_quoted(self.data) if self.type == 'TXT' else self.data + '.'}"

    def row(self) -> dict[str, Any]:
        """The record for programs."""
        return asdict(self) | {"why": _(self.why), "zone": self.line}


def records(config: Config, domain: str, host: str) -> list[Record]:
    """Every record for a list domain on the mail host of that name. A key that is retired stays published while its mail is under way."""
    found = [
        Record(domain, "MX", f"10 {host}", N_("where the lists' mail goes to")),
        Record(domain, "TXT", "v=spf1 mx -all", N_("SPF: who may send for the lists; add what else sends out their mail, a relay for example")),
    ]
    for key in signing.keys(config.directory("dkim.directory")):
        if key.domain == domain:
            found.append(Record(key.name, "TXT", signing.record(key), N_("DKIM: the key that the lists' mail is signed with")))
    found.append(Record(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=quarantine; rua=mailto:postmaster@{domain}", N_("DMARC: what a receiver does with forgeries")))
    return found


def _quoted(text: str) -> str:
    """Character strings of at most 255 octets (RFC 1035 section 3.3), which a reader joins without a blank (RFC 6376 section 3.6.2.2)."""
    return " ".join('"' + text[at : at + 255].replace("\\", "\\\\").replace('"', '\\"') + '"' for at in range(0, len(text), 255))
