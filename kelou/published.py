"""Whether a list domain's records are published: each compared with what receivers have to find, the difference in plain words, and the fix.

Without the first five mail is refused or thrown away; MTA-STS (RFC 8461) and TLS-RPT (RFC 8460) protect what comes in, and are only recommended.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import dmarc, signing, spfcheck, zone
from .config import Config
from .finding import Finding
from .i18n import _
from .models import now
from .resolver import Dns, Trouble, texts
from .signing import Key
from .zone import Record

_SPF = re.compile(rb"v=spf1(?: |\Z)", re.IGNORECASE)
_STS = re.compile(rb"v=STSv1[ \t]*;(?:.*[; \t])?id=[A-Za-z0-9]{1,32}[ \t]*(?:;.*)?", re.DOTALL)
_RPT = re.compile(rb"v=TLSRPTv1[ \t]*;[ \t]*rua=(?:mailto:|https:).+", re.DOTALL)


def check(config: Config, domain: str, host: str, dns: Dns) -> list[Finding]:
    """Every record of a domain, for the mail host of that name."""
    case = _Case(config, domain, host, dns)
    found: list[Finding] = []
    for name, look in _CHECKS.items():
        try:
            found += look(case)
        except Trouble as trouble:
            fix = _("see that the name servers of {domain} answer, and those in dns.resolvers").format(domain=domain)
            found.append(Finding(name, "unknown", _("the DNS does not answer ({reason})").format(reason=trouble), fix))
    return found


def addresses(host: str, dns: Dns) -> list[str]:
    """The addresses of a host. Raises Trouble."""
    return [record.address for rdtype in ("A", "AAAA") for record in dns.lookup(host, rdtype)]


def key_problem(key: Key, dns: Dns) -> str:
    """What is wrong with the published record of a key; empty if it is as it should be. Raises Trouble."""
    found = texts(dns, key.name)
    if not found:
        return _("there is no TXT record at {name}").format(name=key.name)
    if len(found) > 1:
        return _("there are {number} TXT records at {name}; one must be there").format(number=len(found), name=key.name)
    published, wanted = (_tags(text) for text in (found[0], signing.record(key).encode("ascii")))
    if published.get("p", "") == wanted["p"] and published.get("k", "rsa") == "rsa" and published.get("v", "DKIM1") == "DKIM1":
        return ""
    if not published.get("p"):
        return _("the record at {name} has no key in it").format(name=key.name)
    return _("the record at {name} has another key than the one that signs").format(name=key.name)


def _tags(text: bytes) -> dict[str, str]:
    parts = (part.partition("=") for part in text.decode("ascii", "replace").split(";"))
    return {name.strip(): "".join(value.split()) for name, equals, value in parts if equals}


@dataclass(frozen=True, slots=True)
class _Case:
    config: Config
    domain: str
    host: str
    dns: Dns

    def wanted(self, name: str, rdtype: str, start: str = "") -> Record:
        """The record that should be there."""
        records = zone.records(self.config, self.domain, self.host)
        return next(one for one in records if (one.name, one.type) == (name, rdtype) and one.data.startswith(start))


def _publish(record: Record) -> str:
    return _("publish: {line}").format(line=" ".join(record.line.split("\t")))


def _mx(case: _Case) -> Iterator[Finding]:
    fix = _publish(case.wanted(case.domain, "MX"))
    hosts = [(record.preference, _name(record.exchange)) for record in case.dns.lookup(case.domain, "MX")]
    names = [name for _preference, name in sorted(hosts)]
    if not names:
        yield Finding("mx", "error", _("there is no MX record: mail to the lists may not arrive"), fix)
    elif case.host.lower() not in names:
        text = _("mail to {domain} goes to {hosts}, not to {host}")
        yield Finding("mx", "error", text.format(domain=case.domain, hosts=", ".join(names), host=case.host), fix)
    else:
        yield Finding("mx", "ok", ", ".join(names))
    if not addresses(case.host, case.dns):
        text = _("the mail host {host} has no address in the DNS")
        yield Finding("host", "error", text.format(host=case.host), _("publish its A and AAAA records, or set myhostname of Postfix to a name that has some"))


def _name(name: Any) -> str:
    return str(name.to_text(omit_final_dot=True)).lower()


def _spf(case: _Case) -> Iterator[Finding]:
    wanted = case.wanted(case.domain, "TXT", "v=spf1")
    found = [text for text in texts(case.dns, case.domain) if _SPF.match(text)]
    if not found:
        yield Finding("spf", "error", _("there is no SPF record at {domain}").format(domain=case.domain), _publish(wanted))
        return
    if len(found) > 1:
        text = _("there are {number} SPF records at {domain}; receivers then heed none (RFC 7208 section 4.5)").format(number=len(found), domain=case.domain)
        yield Finding("spf", "error", text, _("make one of them, with what each of them allows, and delete the others: {records}").format(records=_shown(found)))
        return
    for address in addresses(case.host, case.dns):
        result = spfcheck.check(address, f"postmaster@{case.domain}", case.host, case.dns)
        if result == "temperror":
            raise Trouble(f"SPF {case.domain}")
        if result != "pass":
            text = _("{record} does not allow {address}, which sends for the lists: {result}")
            shown = text.format(record=_shown(found), address=address, result=result)
            yield Finding("spf", "error", shown, _("allow it there, before its last term: by mx, or by ip4 or ip6 with that address"))
            return
    yield Finding("spf", "ok", _shown(found))


def _shown(found: list[bytes]) -> str:
    return " | ".join(text.decode("ascii", "replace")[:200] for text in found)


def _dkim(case: _Case) -> Iterator[Finding]:
    own = [key for key in signing.keys(case.config.directory("dkim.directory")) if key.domain == case.domain]
    if not any(key.state == "active" for key in own):
        yield Finding("dkim", "error", _("no key signs for {domain}").format(domain=case.domain), f"kelou dkim new {case.domain}")
    for key in own:
        if key.state == "retired" and signing.until(key) < now():
            continue
        name = f"dkim {key.selector}"
        problem = key_problem(key, case.dns)
        fix = _publish(case.wanted(key.name, "TXT"))
        if key.state == "new":
            then = _("{selector} is published and signs once you say so").format(selector=key.selector)
            activate = f"kelou dkim activate {case.domain} {key.selector}"
            yield Finding(name, "warning", problem or then, fix if problem else activate)
        elif problem:
            yield Finding(name, "error", problem, fix)
        else:
            yield Finding(name, "ok", key.name)


def _dmarc(case: _Case) -> Iterator[Finding]:
    name = f"_dmarc.{case.domain}"
    wanted = _publish(case.wanted(name, "TXT"))
    found = texts(case.dns, name)
    policies = [text for text in found if dmarc.is_record(text)]
    if len(policies) > 1:
        text = _("there are {number} DMARC records at {name}; receivers then heed none").format(number=len(policies), name=name)
        yield Finding("dmarc", "error", text, _("keep one of them: {records}").format(records=_shown(policies)))
    elif policies:
        faults = dmarc.faults(policies[0])
        if faults:
            yield Finding("dmarc", "error", _("the record {record} has an error in {tags}").format(record=_shown(policies), tags=", ".join(faults)), wanted)
        else:
            yield Finding("dmarc", "ok", _shown(policies))
    elif found:
        yield Finding("dmarc", "error", _("what stands at {name} is no DMARC record: {record}").format(name=name, record=_shown(found)), wanted)
    elif above := dmarc.policy(case.domain, case.dns).found:
        yield Finding("dmarc", "ok", _("by the record of {domain}").format(domain=above))
    else:
        yield Finding("dmarc", "error", _("there is no DMARC record at {name}, which large receivers ask for").format(name=name), wanted)


def _ptr(case: _Case) -> Iterator[Finding]:
    for address in addresses(case.host, case.dns):
        name = f"ptr {address}"
        where = ipaddress.ip_address(address)
        names = [_name(record.target) for record in case.dns.lookup(where.reverse_pointer, "PTR")]
        if case.host.lower() in names:
            yield Finding(name, "ok", ", ".join(names))
        elif not where.is_global:
            yield Finding(name, "warning", _("{address} is not an address of the Internet").format(address=address), _("look at it from where the world sees it"))
        else:
            text = _("{address} has no name in the DNS") if not names else _("{address} is called {names}, not {host}")
            shown = text.format(address=address, names=", ".join(names), host=case.host)
            yield Finding(name, "error", shown, _("have whoever gave you the address set its name (PTR) to {host}").format(host=case.host))


def _mta_sts(case: _Case) -> Iterator[Finding]:
    yield from _optional("mta-sts", case, f"_mta-sts.{case.domain}", b"v=STSv1", _STS)
    if texts(case.dns, f"_mta-sts.{case.domain}") and not addresses(f"mta-sts.{case.domain}", case.dns):
        text = _("mta-sts.{domain} has no address, so nobody can get the policy file").format(domain=case.domain)
        yield Finding("mta-sts file", "error", text, _publish(case.wanted(f"mta-sts.{case.domain}", "CNAME")))


def _tls_rpt(case: _Case) -> Iterator[Finding]:
    yield from _optional("tls-rpt", case, f"_smtp._tls.{case.domain}", b"v=TLSRPTv1", _RPT)


def _optional(check: str, case: _Case, name: str, start: bytes, right: re.Pattern[bytes]) -> Iterator[Finding]:
    """A record that may be missing, and has to be right where it is there."""
    found = [text for text in texts(case.dns, name) if text.startswith(start)]
    fix = _publish(case.wanted(name, "TXT"))
    if not found:
        yield Finding(check, "warning", _("there is no record at {name}; it is recommended").format(name=name), fix)
    elif len(found) > 1 or not right.fullmatch(found[0]):
        yield Finding(check, "error", _("what stands at {name} is not right: {record}").format(name=name, record=_shown(found)), fix)
    else:
        yield Finding(check, "ok", _shown(found))


_CHECKS: dict[str, Callable[[_Case], Iterator[Finding]]] = {
    "mx": _mx, "spf": _spf, "dkim": _dkim, "dmarc": _dmarc, "ptr": _ptr, "mta-sts": _mta_sts, "tls-rpt": _tls_rpt,
}  # fmt: skip
