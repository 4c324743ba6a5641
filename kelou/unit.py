"""Kelou's units, account and folders for systemd (systemd.unit(5), sysusers.d(5), tmpfiles.d(5)).

The files of systemd/ are what a Debian package installs. Where program, configuration or folders are elsewhere, their paths are put in.
"""

from __future__ import annotations

from pathlib import Path

from .config import DEFAULT_PATH, SETTINGS, Config

SERVICES = ("kelou-lmtp.service", "kelou-milter.service")
TIMERS = ("kelou-maintain.timer",)
UNITS = (*SERVICES, "kelou-maintain.service", *TIMERS)
PROGRAM = Path("/usr/bin/kelou")

_FOLDER = Path(__file__).with_name("systemd")


def files(config: Config, program: Path = PROGRAM) -> dict[Path, str]:
    """Each file, by where it belongs in /etc, and its text. `program` is the path of `kelou`."""
    places = [(f"{PROGRAM} ", f"{program} ")]
    places += [(f"{DEFAULT_PATH}", f"{config.path}"), (f"{DEFAULT_PATH.parent}", f"{config.path.parent}")]
    places += [(SETTINGS["postfix.sockets"].default, str(config.directory("postfix.sockets")))]
    places += [(str(Path(SETTINGS["secret.file"].default).parent), str(config.directory("secret.file").parent))]
    where = {"sysusers.conf": Path("sysusers.d/kelou.conf"), "tmpfiles.conf": Path("tmpfiles.d/kelou.conf")}
    where |= {name: Path("systemd/system") / name for name in UNITS}
    return {path: _placed((_FOLDER / name).read_text("utf-8"), places) for name, path in where.items()}


def _placed(text: str, places: list[tuple[str, str]]) -> str:
    for place, (usual, here) in enumerate(places):
        text = text.replace(usual, f"\0{place}\0" if usual != here else usual)
    for place, (_usual, here) in enumerate(places):
        text = text.replace(f"\0{place}\0", here)
    return text
