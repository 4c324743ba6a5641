"""The site's configuration: every setting once, with type, default and a sentence; read from a TOML file.

A key `table.name` stands in the file as `name` under `[table]`. docs/configuration.md and the sample file are made from SETTINGS.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .i18n import LANGUAGES, N_, _
from .setting import BOOL, COUNT, DURATION, ENDPOINT, ENDPOINTS, INT, LINE, LINES, Setting, SettingError, choice, find, table

DEFAULT_PATH = Path("/etc/kelou/kelou.toml")

SETTINGS = table([
    Setting("site.name", LINE, "Kelou", N_("What the service calls itself in its notices.")),
    Setting("site.language", choice(*LANGUAGES), "fr", N_("The language of notices to people whose own is not known, and of new lists.")),
    Setting("site.command_addresses", LINES, ("sympa",),
            N_("Local parts of the command address in each list domain; footers and headers name the first.")),
    Setting("database.url", LINE, "sqlite:////var/lib/kelou/kelou.db",
            N_("The database: sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/NAME for several hosts.")),
    Setting("secret.file", LINE, "/var/lib/kelou/secret", N_("The file with this site's secret; kelou init makes it, several hosts share it.")),
    Setting("postfix.sockets", LINE, "/var/spool/postfix/kelou",
            N_("The folder of the sockets for Postfix: milter.sock, lmtp.sock and map.sock. Inside Postfix's queue directory it works chrooted too.")),
    Setting("postfix.reinjection", ENDPOINT, "127.0.0.1:10026", N_("The smtpd that takes what lists send; master.cf's service of that port signs it.")),
    Setting("postfix.personal", ENDPOINT, "127.0.0.1:10027",
            N_("The smtpd that takes personal copies, which are signed already; master.cf's service of that port asks no milter.")),
    Setting("postfix.command_directory", LINE, "/usr/sbin", N_("Where postconf, postfix and postqueue are.")),
    Setting("postfix.config_directory", LINE, "/etc/postfix", N_("The folder of main.cf and master.cf.")),
    Setting("milter.processes", COUNT, 1, N_("Processes of the milter; more than one where a single processor core is not enough for all mail to lists.")),
    Setting("authors.trusted_daemons", LINES, ("SUBMISSION",),
            N_("Names (milter_macro_daemon_name) of smtpd services whose clients may write as any author, as a submission service that checks its clients.")),
    Setting("authors.sasl", choice("same", "any", "no"), "same",
            N_("What a SASL login proves: that the author is the login's own address (same), any author (any), or nothing (no).")),
    Setting("authors.authserv_ids", LINES, (),
            N_("Names of verifiers of this host whose Authentication-Results are believed; empty: Kelou verifies DKIM, SPF and DMARC itself.")),
    Setting("authors.unauthenticated", choice("hold", "confirm", "refuse"), "hold",
            N_("What happens to a post whose author, who could post, is not authenticated.")),
    Setting("dns.resolvers", ENDPOINTS, (), N_("Name servers to ask; empty: those of the system.")),
    Setting("dns.timeout", DURATION, 5, N_("How long one DNS answer may take.")),
    Setting("dkim.directory", LINE, "/etc/kelou/dkim", N_("The folder of the DKIM keys.")),
    Setting("distribution.chunk", COUNT, 500, N_("Recipients in one transaction with Postfix; the most that is in doubt after a crash.")),
    Setting("distribution.connections", COUNT, 4, N_("Connections to Postfix for one post.")),
    Setting("distribution.backlog", COUNT, 500, N_("Messages under way in Postfix's queue from which on personal copies wait.")),
    Setting("lists.pending_subscribers", BOOL, False, N_("Whether subscribers may be added to a list that is not active yet.")),
    Setting("lists.renamed", DURATION, 180 * 86400, N_("How long a renamed list's old address goes on taking mail.")),
    Setting("lists.watched_posts", INT, 0, N_("How many of a new list's first posts to many subscribers the listmasters decide on; 0: none.")),
    Setting("lists.watched_from", INT, 500, N_("From how many subscribers on a list's first posts are watched.")),
    Setting("feedback.sender", LINE, "",
            N_("A name for this site in Feedback-ID, by which Gmail's Postmaster Tools tell whose posts are marked as spam; empty: no such field.")),
    Setting("feedback.address", BOOL, False, N_("Whether posts ask for reports of complaints (CFBL-Address) to the list's address for bounces.")),
    Setting("mta_sts.url", LINE, "", N_("Where postfix-mta-sts-resolver listens, for example 127.0.0.1:8461; empty: not used.")),
    Setting("log.file", LINE, "", N_("The file that Kelou's and Postfix's log lines go to, which kelou trace reads; empty: it asks the journal.")),
    Setting("log.level", choice("error", "warning", "info", "debug"), "info", N_("What the daemons log.")),
])


@dataclass(frozen=True)
class Config:
    """The site's settings: `config["site.name"]`. `origin` tells where a value comes from: the file's path or "default"."""

    path: Path
    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key] if key in self.values else find(SETTINGS, key).default

    def origin(self, key: str) -> str:
        return str(self.path) if key in self.values else "default"

    def directory(self, key: str) -> Path:
        """A setting that is a path; a relative one counts from the configuration file's folder."""
        return self.path.parent / Path(self[key])


def locate(option: str | None = None) -> Path:
    """The configuration file: the option, else KELOU_CONFIG, else /etc/kelou/kelou.toml."""
    return Path(option or os.environ.get("KELOU_CONFIG") or DEFAULT_PATH).absolute()


def load(path: Path) -> Config:
    """Read the file. Raises SettingError with the key's name and what would be right; a missing file is one too."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise SettingError(_("{path}: there is no such file; kelou init writes one").format(path=path)) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{path}: {error}") from error
    return Config(path, {key: find(SETTINGS, key).read(value) for key, value in _flatten(tree)})


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def sample() -> str:
    """A configuration file with every setting as a comment, in the language in force."""
    lines: list[str] = []
    current = ""
    for setting in SETTINGS.values():
        group, _dot, name = setting.key.partition(".")
        if group != current:
            lines += ["", f"[{group}]"]
            current = group
        lines += [f"# {_(setting.help)}", f"#{name} = {to_toml(setting.show(setting.default) if setting.kind is DURATION else setting.default)}"]
    return "\n".join(lines[1:]) + "\n"


def to_toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(to_toml(part) for part in value) + "]"
    if isinstance(value, int):
        return str(value)
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if ord(c) >= 32 else f"\\u{ord(c):04x}" for c in escaped) + '"'
