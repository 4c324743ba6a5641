"""DKIM verification (RFC 6376 section 6, RFC 8301, RFC 8463): which domains signed this message, for whoever asks about an author.

Everything about a signature and its key is looked at here, strictly and in linear time, before dkimpy sees any of it: dkimpy believes
signatures that leave out From, cover a part of the body or use SHA-1, takes SERVFAIL for "does not verify", and raises on strange tags
(reference/standards.md 3.2). What is left for it, hashing and the signature itself, happens in a process with a time limit (`dkimworker`).

RSA with SHA-256, keys of 1024 to 8192 bits, and Ed25519 are verified; SHA-1 is not (RFC 8301 section 3.1).
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from . import maillog
from .address import AddressError, host
from .canonical import crlf
from .dkimworker import FAIL, PASS, Busy, Job, TookTooLong, Workers
from .message import Field, Message
from .resolver import Dns, Trouble, texts

SIGNATURES = 5  # that are tried
VALUE = 8_192  # octets in a DKIM-Signature field
BLANKS = 200  # in one run, in a DKIM-Signature field
LINE = 100_000  # octets in a line of the body
HEADER = 65_536  # octets
KEY = 8_192  # octets in a key record
AHEAD = 3_600  # seconds that a signer's clock may be ahead of ours

ALGORITHMS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}

_BLANKS = re.compile(rb"[ \t\r\n]{%d}" % (BLANKS + 1))
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_SPACE = re.compile(r"[ \t\r\n]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_TIME = re.compile(r"[0-9]{1,12}")  # RFC 6376 section 3.5
_SELECTOR = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")
_CANONICALISATIONS = frozenset({"simple", "relaxed", "simple/simple", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"})

WORKERS = Workers(2, 10)


class NotUsable(ValueError):
    """A signature or a key that can not be used, and why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A DKIM-Signature that could be verified: the `index`th from the top."""

    index: int
    domain: str
    selector: str
    algorithm: str
    identity: str  # the domain of i=
    expires: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a domain's signature: pass, fail, policy, permerror or temperror (RFC 8601 section 2.7.1), and why."""

    domain: str
    result: str
    why: str = ""


def verify(message: Message, asked: Dns, wanted: Callable[[str], bool], now: Callable[[], float] = time.time) -> list[Verdict]:
    """Try the signatures of domains that are `wanted`, up to the first that passes.

    `wanted` may raise Trouble; that signature's verdict is temperror then. Never raises for what is in the message.
    """
    verdicts: list[Verdict] = []
    usable: list[tuple[Signature, bytes]] = []
    problem = _problem(message)
    for index, field in enumerate(message.all("dkim-signature")):
        try:
            signature = read(field, index, now())
            if not wanted(signature.domain):
                continue
            if problem:
                raise NotUsable(problem)
            if len(usable) == SIGNATURES:
                break
            usable.append((signature, key(signature, asked)))
        except NotUsable as error:
            verdicts.append(Verdict(_domain(field), "permerror", str(error)))
        except Trouble as error:
            verdicts.append(Verdict(_domain(field), "temperror", str(error)))
    return [*verdicts, *_try(message, usable)]


def read(field: Field, index: int, now: float) -> Signature:
    """Read a DKIM-Signature strictly. Raises NotUsable."""
    tags = _tags(field)
    if tags.get("v") != "1":
        raise NotUsable("not version 1")
    for name in ("a", "b", "bh", "d", "h", "s"):
        if not tags.get(name):
            raise NotUsable(f"no {name}=")
    algorithm = tags["a"].lower()
    if algorithm not in ALGORITHMS:
        raise NotUsable(f"the algorithm {algorithm[:40]} is not accepted")
    if "from" not in tags["h"].lower().split(":"):
        raise NotUsable("From is not signed")
    if "l" in tags:
        raise NotUsable("only a part of the body is signed")
    if tags.get("c", "simple") not in _CANONICALISATIONS:
        raise NotUsable("an unknown canonicalisation")
    if "dns/txt" not in tags.get("q", "dns/txt").split(":"):
        raise NotUsable("an unknown way to get the key")
    if not (_BASE64.fullmatch(tags["b"]) and _BASE64.fullmatch(tags["bh"])):
        raise NotUsable("no base64")
    selector = tags["s"].lower()
    if not _SELECTOR.fullmatch(selector):
        raise NotUsable("the selector is no name")
    domain = _host(tags["d"])
    identity = _host(tags["i"].rpartition("@")[2]) if "i" in tags else domain
    if "@" not in tags.get("i", "@") or not (identity == domain or identity.endswith("." + domain)):
        raise NotUsable("i= is not of the domain d=")
    return Signature(index, domain, selector, algorithm, identity, _times(tags, now))


def key(signature: Signature, asked: Dns) -> bytes:
    """The signer's public key, as a plain key record. Raises NotUsable and Trouble."""
    found = texts(asked, f"{signature.selector}._domainkey.{signature.domain}")
    if not found:
        raise NotUsable("there is no key")
    problem = NotUsable("there is no key")
    for text in found[:SIGNATURES]:  # RFC 6376 section 6.1.2: where there are several, they may be tried
        try:
            return _key(text, signature)
        except NotUsable as error:
            problem = error
    raise problem


def _problem(message: Message) -> str:
    """Why no signature of this message proves anything about its author; empty if one may."""
    froms = message.all("from")
    # What a verifier takes for From must be what we take for it: one field, with the colon at the name.
    if len(froms) != 1 or froms[0].raw[:5].lower() != b"from:":
        return "there is not exactly one From"
    if sum(len(field.raw) for field in message.fields) > HEADER:
        return "the header is too large"
    if _long_line(message.body):
        return "a line is too long"
    return ""


def _long_line(body: bytes) -> bool:
    at = 0
    while len(body) - at > LINE:
        end = body.rfind(b"\n", at, at + LINE + 1)
        if end < 0:
            return True
        at = end + 1
    return False


def _try(message: Message, usable: list[tuple[Signature, bytes]]) -> list[Verdict]:
    if not usable:
        return []
    fields = []
    for field in message.fields:
        name, _colon, rest = field.raw.partition(b":")
        fields.append((name, crlf(rest if rest.endswith(b"\n") else rest + b"\r\n")))
    try:
        results = WORKERS.run(Job(fields, crlf(message.body), [(signature.index, record) for signature, record in usable]))
    except TookTooLong:
        maillog.problem("dkim-took-too-long", domain=usable[0][0].domain)
        return [Verdict(signature.domain, "permerror", "verifying took too long") for signature, _key in usable]
    except Busy:
        maillog.problem("dkim-busy", domain=usable[0][0].domain)
        return [Verdict(signature.domain, "temperror", "the verifier is busy") for signature, _key in usable]
    return [
        Verdict(signature.domain, result if result in (PASS, FAIL) else FAIL, "" if result in (PASS, FAIL) else result)
        for (signature, _key), result in zip(usable, results, strict=False)
    ]


def _tags(field: Field) -> dict[str, str]:
    """The tags of a DKIM-Signature, without their blanks (RFC 6376 section 3.2). Raises NotUsable."""
    if len(field.raw) > VALUE:
        raise NotUsable("the signature is too long")
    if _BLANKS.search(field.raw):
        raise NotUsable("too many blanks in the signature")
    try:
        return _parse(field.value.decode("ascii"))
    except UnicodeDecodeError as error:
        raise NotUsable("the signature is not ASCII") from error


def _parse(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    parts = text.split(";")
    if not parts[-1].strip():
        parts.pop()
    for part in parts:
        name, equals, value = part.partition("=")
        name = name.strip(" \t\r\n")
        if not equals or not _TAG.fullmatch(name) or name in tags:
            raise NotUsable("not a list of tags")
        tags[name] = _SPACE.sub("", value)
    return tags


def _host(name: str) -> str:
    try:
        return host(name)
    except AddressError as error:
        raise NotUsable("not a domain") from error


def _times(tags: Mapping[str, str], now: float) -> int | None:
    """When the signature expires. Raises NotUsable if it has, or is of the future."""
    for name in ("t", "x"):
        if name in tags and not _TIME.fullmatch(tags[name]):
            raise NotUsable(f"{name}= is no time")
    signed = int(tags["t"]) if "t" in tags else None
    expires = int(tags["x"]) if "x" in tags else None
    if signed is not None and signed > now + AHEAD:
        raise NotUsable("signed in the future")
    if expires is not None and (expires < now or (signed is not None and expires <= signed)):
        raise NotUsable("the signature has expired")
    return expires


def _domain(field: Field) -> str:
    """The domain of a signature that could not be used, for the log."""
    try:
        return _host(_tags(field).get("d", ""))
    except NotUsable:
        return ""


def _key(text: bytes, signature: Signature) -> bytes:
    """Read a key record (RFC 6376 section 3.6.1). Raises NotUsable."""
    if len(text) > KEY:
        raise NotUsable("the key is too long")
    try:
        tags = _parse(text.decode("ascii"))
    except (UnicodeDecodeError, NotUsable) as error:
        raise NotUsable("the key can not be read") from error
    kind = tags.get("k", "rsa").lower()
    if tags.get("v", "DKIM1") != "DKIM1" or "p" not in tags:
        raise NotUsable("the key can not be read")
    if not tags["p"]:
        raise NotUsable("the key is revoked")
    if kind != ALGORITHMS[signature.algorithm]:
        raise NotUsable("the key is of another kind")
    if "sha256" not in tags.get("h", "sha256").lower().split(":"):
        raise NotUsable("the key is not for SHA-256")
    if not {"*", "email"} & set(tags.get("s", "*").lower().split(":")):
        raise NotUsable("the key is not for mail")
    # t=y, "testing", changes nothing: a signature that verifies does so, and half of those flags have been forgotten.
    if "s" in tags.get("t", "").lower().split(":") and signature.identity != signature.domain:
        raise NotUsable("the key is not for subdomains")
    try:
        data = base64.b64decode(tags["p"], validate=True)
        return b"v=DKIM1; k=%s; p=%s" % (kind.encode("ascii"), base64.b64encode(_rsa(data) if kind == "rsa" else _ed25519(data)))
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NotUsable(str(error) if isinstance(error, NotUsable) else "the key can not be read") from error


def _rsa(data: bytes) -> bytes:
    public = load_der_public_key(data)
    if not isinstance(public, RSAPublicKey):
        raise NotUsable("the key is of another kind")
    # A modulus or an exponent of a stranger's choice makes one verification last minutes.
    if not 1024 <= public.key_size <= 8192 or public.public_numbers().e >= 1 << 33:
        raise NotUsable(f"a key of {public.key_size} bits is not accepted")
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _ed25519(data: bytes) -> bytes:
    return Ed25519PublicKey.from_public_bytes(data).public_bytes_raw()
