"""`kelou backup`: the database, secret, keys and configuration in one file, while everything runs."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import click

import kelou
from kelou import audit, database
from kelou.config import Config
from kelou.i18n import _
from kelou.refusal import BadConfiguration, BadData, CannotCreate, Down

from .command import Noun
from .run import Run
from .site import SOCKETS, answers

backup = Noun("backup")
COMMANDS = (backup,)

INDEX = "kelou-backup.json"
FILE = _("FILE")


@backup.command("create", dry_run="own", help=_("Write a backup; everything may go on running."))
@click.argument("file", metavar=FILE, type=click.Path(path_type=Path))
@click.pass_obj
def create(run: Run, file: Path) -> None:
    source = _source(run.config)
    if file.exists():
        raise CannotCreate(_("{path} is there already; give another name").format(path=file))
    if not file.parent.is_dir():
        raise CannotCreate(f"{file}: {os.strerror(errno.ENOENT)}")
    if run.dry_run:
        run.say(_("A backup would be written to {path}.").format(path=file))
        return
    with run.site(), _beside(file) as folder:
        copy = Path(folder) / "database"
        # SQLite's own online copy: the WAL is in it, and writers go on (https://www.sqlite.org/backup.html).
        with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(copy)) as target:
            live.backup(target)
        parts = {"database": copy.read_bytes(), **_others(run.config)}
        draft = Path(folder) / "backup"
        _write(draft, parts)
        draft.rename(file)
        with database.transaction():
            audit.record(run.actor, "backup create", object=str(file))
    run.done({"file": str(file), "parts": sorted(parts)}, _("{path} holds everything; keep it as you keep passwords.").format(path=file))


@backup.command("verify", help=_("Whether a backup is whole."))
@click.argument("file", metavar=FILE, type=click.Path(path_type=Path))
@click.pass_obj
def verify(run: Run, file: Path) -> None:
    parts = _read(file)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "database"
        copy.write_bytes(parts["database"])
        _check(copy)
    run.done({"file": str(file), "parts": sorted(parts), "result": "whole"}, _("{path} is whole.").format(path=file))


@backup.command("restore", dry_run="own", help=_("Put a backup back in the place of what is there; the daemons have to be stopped."))
@click.argument("file", metavar=FILE, type=click.Path(path_type=Path))
@click.pass_obj
def restore(run: Run, file: Path) -> None:
    run.require_shell()
    config = run.config
    target = _source(config)
    running = [name for name, socket in SOCKETS.items() if answers(config.directory("postfix.sockets") / socket) == "up"]
    if running:
        raise Down(_("stop the daemons first: {names}").format(names=", ".join(running)))
    parts = _read(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        copy = Path(folder) / "database"
        copy.write_bytes(parts["database"])
        _check(copy)
        if run.dry_run:
            run.say(_("{path} would take the place of {target}.").format(path=file, target=target))
            return
        if target.exists():
            run.sure(_("Replace {target} with what is in {path}?").format(target=target, path=file))
        copy.chmod(target.stat().st_mode & 0o777 if target.exists() else 0o640)
        _give(copy, target.parent)
        for suffix in ("-wal", "-shm"):  # they belong to the old one, and would be played into the new one
            target.with_name(target.name + suffix).unlink(missing_ok=True)
        copy.replace(target)
    for name, path in _places(config, parts).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _private(path, parts[name])
    database.open_database(config)
    database.migrate()
    with database.transaction():
        audit.record(run.actor, "backup restore", object=str(file))
    run.done({"file": str(file), "parts": sorted(parts), "result": "restored"}, _("{path} is put back; start the daemons.").format(path=file))


def _beside(file: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder on the same disk, for the draft. Raises CannotCreate."""
    try:
        return tempfile.TemporaryDirectory(dir=file.parent)
    except OSError as error:
        raise CannotCreate(f"{file}: {error.strerror}") from error


def _source(config: Config) -> Path:
    path = database.file(config)
    if not path:
        raise BadConfiguration(_("the database is not SQLite: use its own tools (pg_dump), and copy the secret and the keys"))
    return path


def _others(config: Config) -> dict[str, bytes]:
    """The files beside the database, by their name in a backup."""
    keys = config.directory("dkim.directory")
    files = {"config": config.path, "secret": config.directory("secret.file")}
    files |= {f"dkim/{path.relative_to(keys)}": path for path in keys.glob("*/*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if path.exists()}


def _places(config: Config, parts: dict[str, bytes]) -> dict[str, Path]:
    """Where the parts of a backup belong; the configuration of this host stays."""
    keys = config.directory("dkim.directory")
    places = {"secret": config.directory("secret.file")} if "secret" in parts else {}
    for name in parts:
        kind, _slash, rest = name.partition("/")
        if kind == "dkim" and rest.count("/") == 1 and ".." not in rest.split("/"):
            places[name] = keys / rest
    return places


def _private(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.restore")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    _give(draft, path.parent)
    draft.replace(path)


def _give(path: Path, folder: Path) -> None:
    """What root puts back belongs to whoever owns the folder: the daemons have to read and write it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _write(path: Path, parts: dict[str, bytes]) -> None:
    made = int(time.time())
    index = {"version": kelou.__version__, "made": made, "sha256": {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}}
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with tarfile.open(path, "w:gz") as archive:
        for name, part in {INDEX: json.dumps(index, indent=2).encode(), **parts}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime, entry.mode = len(part), made, 0o600
            archive.addfile(entry, io.BytesIO(part))


def _read(path: Path) -> dict[str, bytes]:
    """The parts of a backup, each as its checksum says. Raises BadData."""
    wrong = BadData(_("{path} is no backup of Kelou, or it is damaged").format(path=path))
    try:
        with tarfile.open(path, "r:gz") as archive:
            parts = {entry.name: _content(archive, entry) for entry in archive.getmembers() if entry.isfile()}
        sums: dict[str, Any] = json.loads(parts.pop(INDEX))["sha256"]
    except FileNotFoundError as error:
        raise BadData(_("{path}: there is no such file").format(path=path)) from error
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError, TypeError) as error:
        raise wrong from error
    if "database" not in parts or {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()} != sums:
        raise wrong
    return parts


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(entry)
    return file.read() if file else b""


def _check(path: Path) -> None:
    """Raises BadData where a database is not whole."""
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
            said = [line for (line,) in copy.execute("PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        said = [str(error)]
    if said != ["ok"]:
        raise BadData(_("the database in it is damaged: {reason}").format(reason=said[0]))
