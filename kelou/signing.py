"""DKIM: the keys of the list domains, and the one signer of what lists send (RFC 6376, RFC 8301).

A key is `DIRECTORY/DOMAIN/SELECTOR.pem`. `DIRECTORY/DOMAIN/selectors` says in lines `SELECTOR STATE SINCE` which one signs: a key is new until its
record is published, then active, then retired; a retired one signs nothing, but its record stays published for as long as what it signed is under
way. A key without a line is new.

Signing is dkimpy's, but for three things: RSA is done by `cryptography` (some 16 times faster, in constant time); the canonical forms are our own
(`canonical`), linear whatever a stranger wrote; and x= is set. The body is hashed once (`body_hash`), so that a personal copy costs one pass over
its header.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import dkim
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat, load_pem_private_key

from .address import AddressError, host
from .canonical import relaxed_fields, simple_body
from .i18n import _
from .message import Field, Message
from .models import now as clock
from .refusal import BadConfiguration, BadData, CannotCreate, NotFound, NotPermitted

BITS = 2048
LIFETIME = 7 * 86400  # seconds that a signature is good for: more than Postfix's maximal_queue_lifetime (5 days), little enough against replay
KEPT = LIFETIME + 5 * 86400  # seconds that a retired key's record stays published: what it signed last may have waited in a queue
LONGEST_DOMAIN = 60  # octets; dkimpy folds a d= of 69 and more inside the domain, and no verifier reads that

# Named in h= once more than they occur: none of them can be added or doubled under way (RFC 6376 section 5.4, RFC 8058 section 4).
SIGNED = (
    "from", "x-original-from", "to", "cc", "subject", "date", "message-id", "reply-to", "sender", "in-reply-to", "references",
    "mime-version", "content-type", "content-transfer-encoding",
    "list-id", "list-post", "list-help", "list-subscribe", "list-unsubscribe", "list-unsubscribe-post", "list-owner", "list-archive",
    "feedback-id", "cfbl-address",
)  # fmt: skip

_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a domain. `state` is new, active or retired, `since` the time it became so."""

    domain: str
    selector: str
    state: str
    since: int
    private: RSAPrivateKey

    @property
    def name(self) -> str:
        """Where its record stands in the DNS."""
        return f"{self.selector}._domainkey.{self.domain}"


def create(directory: Path, domain: str, selector: str) -> str:
    """Make a key, active if the domain has none that is; returns its record. Raises Refusal for a name that can not be, or one there is already."""
    domain, selector = _host(domain), selector.lower()
    if len(domain) > LONGEST_DOMAIN:
        raise BadData(_("{domain}: longer than {limit} octets, too long to sign for").format(domain=domain, limit=LONGEST_DOMAIN))
    if not _SELECTOR.fullmatch(selector):
        raise BadData(_("{selector}: a selector is up to 32 letters, digits and hyphens").format(selector=selector))
    folder = directory / domain
    path = folder / f"{selector}.pem"
    if path.exists():
        raise CannotCreate(_("{domain} has a key {selector} already; choose another selector").format(domain=domain, selector=selector))
    for missing in (directory, folder):
        _make(missing)
    private = generate_private_key(65537, BITS)
    try:
        _write(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), replace=False)
    except FileExistsError as error:  # somebody was faster
        raise CannotCreate(_("{domain} has a key {selector} already; choose another selector").format(domain=domain, selector=selector)) from error
    if "active" not in {state for state, _since in _states(folder).values()}:
        activate(directory, domain, selector)
    return record(Key(domain, selector, "new", 0, private))


def activate(directory: Path, domain: str, selector: str) -> None:
    """Sign with this key from now on; the one that was active is retired."""
    folder = directory / _host(domain)
    if not _SELECTOR.fullmatch(selector) or not (folder / f"{selector}.pem").exists():
        raise NotFound(_("{domain} has no key {selector}").format(domain=domain, selector=selector))
    states = _states(folder)
    if states.get(selector, ("", 0))[0] == "active":
        return
    states = {name: ("retired", clock()) if state == "active" else (state, since) for name, (state, since) in states.items()}
    states[selector] = "active", clock()
    _note(folder, states)


def retire(directory: Path, domain: str, selector: str) -> None:
    """Never sign with this key again. Raises NotPermitted for the one that signs now: activating another one retires it."""
    folder = directory / _host(domain)
    if not _SELECTOR.fullmatch(selector) or not (folder / f"{selector}.pem").exists():
        raise NotFound(_("{domain} has no key {selector}").format(domain=domain, selector=selector))
    states = _states(folder)
    state, _since = states.get(selector, ("new", 0))
    if state == "active":
        text = _("{selector} signs for {domain} now: activate another key first (kelou dkim rotate {domain} makes one)")
        raise NotPermitted(text.format(domain=domain, selector=selector))
    if state == "new":  # it has signed nothing: nobody will look for it
        _note(folder, states | {selector: ("retired", 0)})


def until(key: Key) -> int:
    """The time until which a retired key's record has to stay published."""
    return key.since + KEPT


def find(directory: Path, domain: str, selector: str) -> Key:
    """One key. Raises NotFound."""
    found = next((key for key in keys(directory) if (key.domain, key.selector) == (domain, selector.lower())), None)
    if found is None:
        raise NotFound(_("{domain} has no key {selector}").format(domain=domain, selector=selector))
    return found


def record(key: Key) -> str:
    """The text of the DNS record that publishes a key (RFC 6376 section 3.6.1)."""
    public = key.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode('ascii')}"


def keys(directory: Path) -> list[Key]:
    """Every key there is, by domain and selector."""
    found = []
    for path in sorted(directory.glob("*/*.pem")):
        state, since = _states(path.parent).get(path.stem, ("new", 0))
        found.append(Key(path.parent.name, path.stem, state, since, _load(path)))
    return found


class _Stamp(NamedTuple):
    """What tells that a file is the one that was read."""

    inode: int
    modified: int
    size: int


_cache: dict[Path, tuple[_Stamp, Key | None]] = {}
_lock = threading.Lock()


def active(directory: Path, domain: str) -> Key | None:
    """The key that signs for a domain, None if there is none. Costs one stat as long as nothing changes."""
    folder = directory / domain
    try:
        status = (folder / "selectors").stat()
    except FileNotFoundError:
        return None
    stamp = _Stamp(status.st_ino, status.st_mtime_ns, status.st_size)
    with _lock:
        cached = _cache.get(folder)
        if not cached or cached[0] != stamp:
            found = next(((name, since) for name, (state, since) in _states(folder).items() if state == "active"), None)
            key = Key(domain, found[0], "active", found[1], _load(folder / f"{found[0]}.pem")) if found else None
            cached = _cache[folder] = stamp, key
        return cached[1]


def sign(message: Message, key: Key, now: int) -> Field:
    """The DKIM-Signature field for a message; the caller puts it above the others."""
    return sign_fields(message.fields, body_hash(message.body), key, now)


def body_hash(body: bytes) -> str:
    """The hash of a body, for bh=."""
    return base64.b64encode(hashlib.sha256(simple_body(body)).digest()).decode("ascii")


def sign_fields(fields: Iterable[Field], body: str, key: Key, now: int) -> Field:
    """The same over a body that is hashed already."""
    found: dict[str, list[bytes]] = {}
    for name, canonical in map(_canonical, (field.raw for field in fields)):
        if name in SIGNED or name.startswith("list-"):
            found.setdefault(name, []).append(canonical)
    names = [name for name in dict.fromkeys((*SIGNED, *found)) for _again in range(len(found.get(name, ())) + 1)]
    # gen_header() goes through all fields for each name. We hash them, from below (RFC 6376 section 5.4.2), and it hashes its own.
    header = hashlib.sha256(b"".join(found[name].pop() for name in names if found.get(name)))
    # It asks its key to sign only where it takes the key for an Ed25519 one; what the signature is, the tags say.
    signer = dkim.DomainSigner(signature_algorithm=b"ed25519-sha256")
    signer.hasher = lambda: header
    signer.headers = []
    included = [name.encode("ascii") for name in names]
    tags = [
        (b"v", b"1"),
        (b"a", b"rsa-sha256"),
        (b"c", b"relaxed/simple"),
        (b"d", key.domain.encode("ascii")),
        (b"s", key.selector.encode("ascii")),
        (b"t", b"%d" % now),
        (b"x", b"%d" % (now + LIFETIME)),
        (b"h", b" : ".join(included)),
        (b"bh", body.encode("ascii")),
        (b"b", b"0" * 60),  # so long that it is folded onto a line of its own, as the real one will be
    ]
    return Field(b"DKIM-Signature: " + bytes(signer.gen_header(tags, included, _Relaxed, b"DKIM-Signature", _Rsa(key.private))))


@lru_cache(64)
def _canonical(raw: bytes) -> tuple[str, bytes]:
    """A field's name, and the field as it is hashed. The copies of a post have most of their fields in common."""
    (name, value), *_none = relaxed_fields([(raw.partition(b":")[0], raw.partition(b":")[2])])
    return name.decode("ascii"), name + b":" + value


class _Relaxed:
    """Our canonical form, as gen_header() wants one."""

    canonicalize_headers = staticmethod(relaxed_fields)


@dataclass(frozen=True, slots=True)
class _Rsa:
    """A key as gen_header() wants one."""

    private: RSAPrivateKey
    signature: bytes = b""

    def sign(self, digest: bytes) -> _Rsa:
        return _Rsa(self.private, self.private.sign(digest, PKCS1v15(), Prehashed(SHA256())))


def _host(domain: str) -> str:
    try:
        return host(domain)
    except AddressError as error:
        raise BadData(_("{domain}: this is not a domain").format(domain=domain)) from error


def _states(folder: Path) -> dict[str, tuple[str, int]]:
    """What `selectors` says: selector → state, since."""
    try:
        lines = (folder / "selectors").read_text("ascii").splitlines()
        return {name: (state, int(since)) for name, state, since in (line.split() for line in lines)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadConfiguration(_("{path} can not be read").format(path=folder / "selectors")) from error


def _note(folder: Path, states: dict[str, tuple[str, int]]) -> None:
    _write(folder / "selectors", "".join(f"{name} {state} {since}\n" for name, (state, since) in states.items()).encode(), replace=True)


def _load(path: Path) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise BadConfiguration(_("{path} can not be read as a key").format(path=path)) from error
    if not isinstance(key, RSAPrivateKey):
        raise BadConfiguration(_("{path} is not an RSA key").format(path=path))
    return key


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(0o700, parents=True)
        _give(folder)


def _write(path: Path, content: bytes, replace: bool) -> None:
    """Write a file that is there as a whole or not at all, readable by its owner alone."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _give(draft)
        if replace:
            draft.replace(path)
        else:
            path.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)


def _give(path: Path) -> None:
    """What root makes belongs to whoever owns the folder: the milter has to read it."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
