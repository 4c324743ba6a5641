"""The site's secret, and seals made with it: what one door writes into a message and only another door believes.

A seal is an HMAC over a purpose and some texts. Each purpose is a word of its own, so that a seal for one never serves for another.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from pathlib import Path

from .config import Config
from .i18n import _
from .message import Field, Message, field
from .setting import SettingError

SIGN = "Kelou-Sign"  # the field that asks the re-injection port for a signature; the milter takes it off
AUTHOR = "Kelou-Author"  # the field in which the milter tells the LMTP handler who wrote; distribution takes it off

_SIZE = 32
_SIGN_WITHIN = 3600  # seconds from asking for a signature to getting it: re-injection is one dialogue on loopback
_ASKED = re.compile(r"d=([^\s;]+); t=([0-9]{1,12}); s=([0-9a-f]{32})")


class Secret:
    """The secret itself; it is never shown."""

    def __init__(self, value: bytes) -> None:
        self._value = value

    def seal(self, purpose: str, *texts: str) -> str:
        """A seal over these texts: 32 hex digits, 128 bits."""
        data = "\0".join((purpose, *texts)).encode("utf-8", "surrogatepass")
        return hmac.new(self._value, data, hashlib.sha256).hexdigest()[:32]

    def holds(self, seal: str, purpose: str, *texts: str) -> bool:
        """Whether this is the seal over these texts."""
        return hmac.compare_digest(seal.encode("utf-8", "replace"), self.seal(purpose, *texts).encode("ascii"))


def load(config: Config) -> Secret:
    """Read the secret. Raises SettingError where there is none, or one too short to be one."""
    path = config.directory("secret.file")
    try:
        value = bytes.fromhex(path.read_text("ascii").strip())
    except (OSError, ValueError) as error:
        raise SettingError(_("secret.file: {path} can not be read as a secret; kelou init makes one").format(path=path)) from error
    if len(value) < _SIZE:
        raise SettingError(_("secret.file: {path} is too short for a secret; remove it, and kelou init makes one").format(path=path))
    return Secret(value)


def create(path: Path) -> bool:
    """Make the file with a new secret, readable by its owner alone; False if there is one already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(_SIZE) + "\n")
    return True


def ask_signature(secret: Secret, domain: str, now: int) -> Field:
    """The field that asks the re-injection port to sign for a domain; anybody on this host can hand mail in there, and only this is signed."""
    return field(SIGN, f"d={domain}; t={now}; s={secret.seal('sign', domain, str(now))}")


def signature_asked(secret: Secret, message: Message, now: int) -> str | None:
    """The domain to sign a message for, if it carries a field of ours that asks for it."""
    for asked in message.all(SIGN):
        match = _ASKED.fullmatch(asked.text)
        if match and abs(now - int(match[2])) <= _SIGN_WITHIN and secret.holds(match[3], "sign", match[1], match[2]):
            return match[1]
    return None
