"""DMARC: what the owner of an author's domain asks for, and which other domains speak for it (RFC 9989, with draft dmarcbis-41 for its text).

`policy` is discovery (section 4.10.1), `organisation` the organisational domain (section 4.10.2), both by the DNS tree walk (section 4.10), at
most eight questions each. Every function here raises `resolver.Trouble` where DNS does not answer: that is never "no policy".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .resolver import Dns, texts

_VERSION = re.compile(rb"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[^ ,!]+", re.IGNORECASE)
_POLICIES = ("none", "quarantine", "reject")
LABELS = 8  # section 4.10: from so many labels on, the walk goes on with seven


@dataclass(frozen=True, slots=True)
class Record:
    """A DMARC policy record. `applies` is False where section 4.10.1 says to apply no DMARC processing for its faults."""

    p: str = "none"
    sp: str = ""
    np: str = ""
    adkim: str = "r"
    aspf: str = "r"
    psd: str = "u"
    testing: bool = False
    applies: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """What is asked for mail from `domain` that fails. `found` is the domain whose record says it; empty if no record applies."""

    domain: str
    found: str = ""
    p: str = "none"  # as declared, by p, sp or np
    testing: bool = False
    adkim: str = "r"
    aspf: str = "r"

    @property
    def disposition(self) -> str:
        """What to do with mail that fails: the policy, one step milder while its owner tests it (t=y, section 4.7 and appendix A.6)."""
        return _POLICIES[max(_POLICIES.index(self.p) - self.testing, 0)]


def policy(domain: str, asked: Dns) -> Policy:
    """The policy for an author's domain, given as A-labels in lower case."""
    own = record(domain, asked)
    if own:
        return _policy(domain, domain, own, own.p)
    found = _walk(domain, asked, above=True)
    top = _organisation(domain, found)
    # The organisational domain's own record, else that of the public suffix above it (section 4.10.1).
    name, applied = next(((n, r) for n, r in found if n == top), found[-1] if found else ("", None))
    if not applied:
        return Policy(domain)
    asked_for = applied.sp or applied.p
    if applied.np and applied.np != asked_for and not _exists(domain, asked):
        asked_for = applied.np
    return _policy(domain, name, applied, asked_for)


def organisation(domain: str, asked: Dns) -> str:
    """The organisational domain of a domain: itself where nothing says otherwise."""
    return _organisation(domain, _walk(domain, asked))


def aligned(author: str, other: str, mode: str, asked: Dns) -> bool:
    """Whether what is proved of `other` holds for mail from `author`: the same domain ("s"), or the same organisation ("r", section 4.4)."""
    if author == other:
        return True
    # An organisation has two labels or more: what does not share them is a stranger's, and not even asked for.
    if mode == "s" or author.split(".")[-2:] != other.split(".")[-2:]:
        return False
    return organisation(author, asked) == organisation(other, asked)


def record(domain: str, asked: Dns) -> Record | None:
    """The valid DMARC record of just this domain. Several are none (section 4.10, steps 2 and 6)."""
    found = [text for text in texts(asked, f"_dmarc.{domain}") if is_record(text)]
    return _read(found[0]) if len(found) == 1 else None


def is_record(text: bytes) -> bool:
    """Whether this says that it is a DMARC record."""
    return _VERSION.match(text) is not None


def faults(text: bytes) -> list[str]:
    """What in a record is not as its author will have meant it: tags with values that can not be, and those that are missing."""
    tags = _tags(text)
    found = [f"{name}={tags[name]}" for name in ("p", "sp", "np") if name in tags and tags[name].lower() not in _POLICIES]
    found += [f"{name}={tags[name]}" for name in ("adkim", "aspf") if tags.get(name, "r").lower() not in ("r", "s")]
    found += [f"{name}={tags[name]}" for name in ("rua", "ruf") if name in tags and not all(_is_uri(uri) for uri in tags[name].split(","))]
    return found + (["p"] if "p" not in tags else [])


def _is_uri(text: str) -> bool:
    return _URI.fullmatch(text.strip(" \t").partition("!")[0]) is not None


def _read(text: bytes) -> Record:
    tags = _tags(text)
    policies = {name: tags[name].lower() for name in ("p", "sp", "np") if name in tags}
    psd = _one_of(tags.get("psd", ""), "u", "y", "n")
    adkim, aspf = (_one_of(tags.get(name, ""), "r", "s") for name in ("adkim", "aspf"))
    if any(value not in _POLICIES for value in policies.values()):
        reported = any(_URI.fullmatch(uri.strip(" \t")) for uri in tags.get("rua", "").split(","))
        return Record(adkim=adkim, aspf=aspf, psd=psd, applies=reported)
    # A record without p= is one of p=none (section 4.7).
    return Record(
        p=policies.get("p", "none"),
        sp=policies.get("sp", ""),
        np=policies.get("np", ""),
        adkim=adkim,
        aspf=aspf,
        psd=psd,
        testing=tags.get("t", "").lower() == "y",
    )


def _tags(text: bytes) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in text.decode("ascii", "replace").split(";")[1:]:
        name, equals, value = part.partition("=")
        if equals:
            tags.setdefault(name.strip(" \t").lower(), value.strip(" \t"))
    return tags


def _one_of(value: str, default: str, *others: str) -> str:
    """Syntax errors are read as the default (section 4.7)."""
    return value.lower() if value.lower() in others else default


def _policy(domain: str, name: str, applied: Record, p: str) -> Policy:
    if not applied.applies:
        return Policy(domain)
    return Policy(domain, name, p, applied.testing, applied.adkim, applied.aspf)


def _walk(domain: str, asked: Dns, *, above: bool = False) -> list[tuple[str, Record]]:
    """The records from a domain (or only from above it) up to the top, from the longest name to the shortest."""
    found: list[tuple[str, Record]] = []
    labels = domain.split(".")
    names = [labels, *(labels[-count:] for count in range(min(len(labels), LABELS) - 1, 0, -1))]
    for name in names[above:]:
        joined = ".".join(name)
        here = record(joined, asked)
        if here:
            found.append((joined, here))
            if here.psd != "u":
                break
    return found


def _organisation(domain: str, found: list[tuple[str, Record]]) -> str:
    for name, here in found:
        if here.psd == "n":
            return name
        # A top-level domain is nobody's organisation, with psd=y or without: its registry must not make all that is under it one author.
        if name != domain and (here.psd == "y" or "." not in name):
            return ".".join(domain.split(".")[-(name.count(".") + 2) :])
    return found[-1][0] if found else domain


def _exists(domain: str, asked: Dns) -> bool:
    """Whether a domain has an address or takes mail (section 3.2.6, non-existent domains)."""
    return any(asked.lookup(domain, rdtype) for rdtype in ("A", "AAAA", "MX"))
