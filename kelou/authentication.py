"""Who wrote: the author of a message as far as it is proved, and what the author's domain asks for mail that proves nothing.

In this order, the first that answers: the service that the mail came in by is trusted; the client is logged in (SASL); a verifier of this host
says so (`authres`); a DKIM signature or SPF proves it, found by ourselves, of a domain aligned with the author's as DMARC has it (RFC 9989
section 4.4).

DKIM, SPF and DMARC authenticate a *domain*: they prove that the domain of From: answers for this message, and so for who among its users wrote it.
That is what the word "authenticated" can mean between strangers, and what DMARC gives; no name or field of a message is believed beyond it.

What a stranger sends has bounds: QUESTIONS to the DNS in SECONDS, five signatures, and a process that is killed when its time is up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from . import authres, dkimverify, dmarc, reading, spfcheck
from .address import Address, AddressError, parse
from .config import Config
from .dkimworker import PASS
from .dmarc import Policy
from .message import Message
from .policy import Author
from .resolver import Dns, Inquiry, Trouble

QUESTIONS = 200
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Verdict:
    """DMARC's: `result` is pass, fail, none (no policy, or not asked) or temperror; `policy` what `domain` asks for mail that fails."""

    result: str = "none"
    policy: str = "none"
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """Who wrote, and DMARC's verdict."""

    author: Author
    dmarc: Verdict = Verdict()

    @property
    def temporary(self) -> bool:
        """Whether the same question may have another answer later: 451, if it matters."""
        return self.author.trouble


def authenticate(
    message: Message,
    *,
    reverse_path: str,
    client_ip: str,
    helo: str,
    sasl_login: str,
    daemon_name: str,
    config: Config,
    resolver: Dns,
    now: Callable[[], float] = time.time,
) -> Result:
    """Find who wrote a message. Never raises for what is in it, or for what the client or the DNS says."""
    mailbox = reading.author_of(message)
    if mailbox is None:
        return Result(Author("", "no single author in From"))
    address = mailbox.address
    if daemon_name and daemon_name in config["authors.trusted_daemons"]:
        return Result(Author(address.key, f"trusted daemon {daemon_name}"))
    if sasl_login and (config["authors.sasl"] == "any" or (config["authors.sasl"] == "same" and _same(sasl_login, address))):
        return Result(Author(address.key, f"login {sasl_login}"))
    case = _Case(message, address, reverse_path, client_ip, helo, Inquiry(resolver, QUESTIONS, SECONDS), now)
    return case.decide(authres.believed(message, config["authors.authserv_ids"]))


def _same(login: str, address: Address) -> bool:
    """Whether a login is that very address. One without a domain is nobody's: it would be jane's at every domain."""
    try:
        return parse(login).key == address.key
    except AddressError:
        return False


class _Case:
    """One message, and what went wrong while looking into it."""

    def __init__(
        self, message: Message, address: Address, reverse_path: str, client_ip: str, helo: str, asked: Inquiry, now: Callable[[], float]
    ) -> None:
        self.message = message
        self.address = address
        self.reverse_path = reverse_path
        self.client_ip = client_ip
        self.helo = helo
        self.asked = asked
        self.now = now
        self.tried: list[str] = []
        self.trouble = False

    def decide(self, said: list[authres.Result]) -> Result:
        domain = self.address.host
        policy: Policy | None = None
        try:
            policy = dmarc.policy(domain, self.asked)
        except Trouble as trouble:
            self._note(f"dmarc=temperror ({trouble})", trouble=True)
        proof = self._said(said, policy) or self._dkim(policy) or self._spf(policy)
        if proof:
            verdict = Verdict("pass" if policy and policy.found else "none", policy.disposition if policy else "none", domain)
            return Result(Author(self.address.key, proof), verdict)
        result = ("temperror" if self.trouble else "fail") if policy is None or policy.found else "none"
        verdict = Verdict(result, policy.disposition if policy else "none", domain)
        forbidden = verdict.result == "fail" and verdict.policy == "reject"
        return Result(Author("", "; ".join(self.tried) or "nothing to prove it by", self.trouble, forbidden), verdict)

    def _note(self, text: str, *, trouble: bool = False) -> None:
        self.tried.append(text)
        self.trouble |= trouble

    def _aligned(self, domain: str, policy: Policy | None, method: str) -> bool:
        """Whether a domain speaks for the author's. The author's own does, whatever the policy says; for any other the policy is needed."""
        if domain == self.address.host:
            return True
        if policy is None:
            raise Trouble("the policy is not known")
        return dmarc.aligned(self.address.host, domain, policy.adkim if method == "dkim" else policy.aspf, self.asked)

    def _said(self, said: list[authres.Result], policy: Policy | None) -> str:
        for result in said:
            name = {"dkim": "header.d", "spf": "smtp.mailfrom", "dmarc": "header.from"}.get(result.method, "")
            domain = _domain(result.properties.get(name, "").rpartition("@")[2])
            if result.result != "pass" or not domain:
                continue
            if result.method == "spf" and domain != _domain(self.reverse_path.rpartition("@")[2]):
                continue
            try:
                if domain == self.address.host or (result.method != "dmarc" and self._aligned(domain, policy, result.method)):
                    return f"verifier: {result.method} {domain}"
            except Trouble as trouble:
                self._note(f"verifier: {result.method} {domain}: {trouble}", trouble=True)
        return ""

    def _dkim(self, policy: Policy | None) -> str:
        for verdict in dkimverify.verify(self.message, self.asked, lambda domain: self._aligned(domain, policy, "dkim"), self.now):
            if verdict.result == PASS:
                return f"dkim {verdict.domain}"
            self._note(f"dkim={verdict.result} {verdict.domain} ({verdict.why})", trouble=verdict.result == "temperror")
        return ""

    def _spf(self, policy: Policy | None) -> str:
        domain = _domain(self.reverse_path.rpartition("@")[2])
        try:
            # Not aligned, it proves nothing of the author, and what it publishes need not be followed.
            if not domain or not self._aligned(domain, policy, "spf"):
                return ""
        except Trouble as trouble:
            self._note(f"spf {domain}: {trouble}", trouble=True)
            return ""
        result = spfcheck.check(self.client_ip, self.reverse_path, self.helo, self.asked)
        if result == "pass":
            return f"spf {domain}"
        self._note(f"spf={result} {domain}", trouble=result == "temperror")
        return ""


def _domain(text: str) -> str:
    try:
        return parse(f"x@{text}").host
    except AddressError:
        return ""
