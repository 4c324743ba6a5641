"""Postfix's queue, asked and nudged through postqueue(1): how much is under way, and have this one message tried again now."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from .config import Config

PATIENCE = 30  # seconds

_QUEUE_ID = re.compile(r"[0-9A-Za-z]{5,30}")
_UNDER_WAY = (b'{"queue_name": "active"', b'{"queue_name": "incoming"')


class Unknown(Exception):
    """postqueue(1) could not say."""


def under_way(config: Config, limit: int) -> int:
    """How many messages Postfix is to deliver now, of whomever, counted up to `limit`. Raises Unknown.

    These come first, and what is put off behind them: nothing of that is read, however much there is.
    """
    found = 0
    try:
        with subprocess.Popen(_command(config, "-j"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            for line in process.stdout or ():
                if line.startswith(b'{"queue_name": "deferred"') or found >= limit:
                    process.kill()
                    return found
                found += line.startswith(_UNDER_WAY)
            status = process.wait(PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(str(error)) from error
    if status:
        raise Unknown(f"postqueue ended with {status}")
    return found


def try_now(config: Config, queue_id: str) -> bool:
    """Have Postfix try a message that it put off at once, and no other; whether it was asked to (flush(8) must be among its services)."""
    if not _QUEUE_ID.fullmatch(queue_id):
        return False
    try:
        done = subprocess.run(
            _command(config, "-i", queue_id), stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _command(config: Config, *arguments: str) -> list[str]:
    program = Path(config["postfix.command_directory"]) / "postqueue"
    return [str(program), "-c", config["postfix.config_directory"], *arguments]
