"""The DNS records that a list domain needs, so that its mail arrives and is believed.

MX, SPF (RFC 7208), DKIM (RFC 6376) and DMARC (RFC 9989); MTA-STS with its policy file (RFC 8461) and TLS-RPT (RFC 8460); the mail host's PTR.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from . import signing
from .config import Config
from .i18n import N_, _
from .models import now


@dataclass(frozen=True, slots=True)
class Record:
    """A record to publish: its full name without the final dot, its data as a person types it, and what it is for.

    Of type FILE it is a file to serve: its address, and its text.
    """

    name: str
    type: str
    data: str
    why: str

    @property
    def line(self) -> str:
        """The record as a line of a zone file (RFC 1035 section 5.1); a comment, where it does not belong into this zone."""
        if self.type == "FILE":
            return "\n".join(f"; {line}" for line in (self.name, *self.data.splitlines()))
        data = _quoted(self.data) if self.type == "TXT" else self.data + "."
        return ("; " if self.type == "PTR" else "") + f"{self.name}.\t3600\tIN\t{self.type}\t{data}"

    def row(self) -> dict[str, Any]:
        """The record for programs."""
        return asdict(self) | {"why": _(self.why), "zone": self.line}


def records(config: Config, domain: str, host: str, addresses: Iterable[str] = ()) -> list[Record]:
    """Every record for a list domain on the mail host of that name and addresses. A retired key stays published while its mail is under way."""
    report = f"mailto:postmaster@{domain}"
    found = [
        Record(domain, "MX", f"10 {host}", N_("where the lists' mail goes to")),
        Record(domain, "TXT", "v=spf1 mx -all", N_("SPF: who may send for the lists; add what else sends out their mail, a relay for example")),
    ]
    for key in signing.keys(config.directory("dkim.directory")):
        if key.domain == domain and (key.state != "retired" or signing.until(key) >= now()):
            found.append(Record(key.name, "TXT", signing.record(key), N_("DKIM: the key that the lists' mail is signed with")))
    policy = _policy(host)
    found += [
        Record(f"_dmarc.{domain}", "TXT", f"v=DMARC1; p=quarantine; rua={report}", N_("DMARC: what a receiver does with forgeries")),
        Record(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={hashlib.sha256(policy.encode()).hexdigest()[:20]}", N_("MTA-STS: there is a policy; recommended")),
        Record(f"mta-sts.{domain}", "CNAME", host, N_("MTA-STS: the web server, with a certificate for this name, that has the policy")),
        Record(f"https://mta-sts.{domain}/.well-known/mta-sts.txt", "FILE", policy, N_("MTA-STS: the policy; write enforce once reports are clean")),
        Record(f"_smtp._tls.{domain}", "TXT", f"v=TLSRPTv1; rua={report}", N_("TLS-RPT: where to report failed encryption; recommended")),
    ]
    names = [ipaddress.ip_address(address).reverse_pointer for address in addresses] or [f"address.of.{host}"]
    return [*found, *(Record(name, "PTR", host, N_("the mail host's name, set by whoever gave it its address")) for name in names)]


def _policy(host: str) -> str:
    """RFC 8461 section 3.2. It begins with testing: under enforce a certificate that is not right keeps mail away."""
    return f"version: STSv1\nmode: testing\nmx: {host}\nmax_age: 604800\n"


def _quoted(text: str) -> str:
    """Character strings of at most 255 octets (RFC 1035 section 3.3), which a reader joins without a blank (RFC 6376 section 3.6.2.2)."""
    return " ".join('"' + text[at : at + 255].replace("\\", "\\\\").replace('"', '\\"') + '"' for at in range(0, len(text), 255))
