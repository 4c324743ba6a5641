"""Mail signed in a test by dkimpy itself, and the keys for it. Nothing of kelou is in here."""

from __future__ import annotations

import base64
from functools import cache
from types import SimpleNamespace

import dkim
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

MAIL = (
    b"From: Jane <jane@example.org>\r\nTo: ca@lists.example\r\nSubject:  A   letter\r\n\twith a fold\r\n"
    b"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello  there \r\n\r\nJane\r\n\r\n\r\n"
)


@cache
def rsa_key(bits: int = 2048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def ed25519_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def record(bits: int = 2048, number: int = 0) -> bytes:
    """The key record of an RSA key."""
    der = rsa_key(bits, number).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"v=DKIM1; k=rsa; p=" + base64.b64encode(der)


def ed25519_record() -> bytes:
    return b"v=DKIM1; k=ed25519; p=" + base64.b64encode(ed25519_key().public_key().public_bytes_raw())


def sign(
    mail: bytes = MAIL,
    domain: str = "example.org",
    selector: str = "s1",
    c: str = "relaxed/simple",
    algorithm: str = "rsa-sha256",
    headers: tuple[str, ...] = ("from", "to", "subject", "date", "message-id"),
    identity: str | None = None,
    bits: int = 2048,
    number: int = 0,
    length: bool = False,
    extra: bytes = b"",
) -> bytes:
    """The mail with a DKIM-Signature on top. `extra` are tags that dkimpy does not set, as b"x=1;": they are signed too."""
    signer = _Signer(mail, extra, [name.encode() for name in headers])
    if algorithm.startswith("ed25519"):
        dkim.nacl = SimpleNamespace(
            signing=SimpleNamespace(SigningKey=lambda seed, encoder: _SigningKey()),
            encoding=SimpleNamespace(Base64Encoder=None),
            exceptions=SimpleNamespace(ValueError=ValueError),
        )
        private = b""
    else:
        private = rsa_key(bits, number).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    header, body = c.encode().split(b"/")
    # dkimpy refuses to sign without From; what is signed here in truth is `headers`.
    field: bytes = signer.sign(
        selector.encode(),
        domain.encode(),
        private,
        signature_algorithm=algorithm.encode(),
        identity=identity.encode() if identity else None,
        canonicalize=(header, body),
        include_headers=[b"from", *(name.encode() for name in headers)],
        length=length,
    )
    return field + mail


class _SigningKey:
    def sign(self, digest: bytes) -> SimpleNamespace:
        return SimpleNamespace(signature=ed25519_key().sign(digest))


class _Signer(dkim.DKIM):
    def __init__(self, mail: bytes, extra: bytes, headers: list[bytes]) -> None:
        super().__init__(mail)
        self._extra = [tuple(part.split(b"=", 1)) for part in extra.split(b";") if part]
        self._headers = headers

    def gen_header(self, fields, include_headers, canon_policy, header_name, pk, standardize=False):
        replaced = dict(self._extra)
        fields = [(name, replaced.pop(name, value)) for name, value in fields if name != b"h"]
        fields[-2:-2] = [(b"h", b" : ".join(self._headers)), *replaced.items()]
        return super().gen_header(fields, self._headers, canon_policy, header_name, pk, standardize)
