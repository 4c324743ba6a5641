"""dkimpy in a process of its own, that can be killed (RFC 6376 section 6.1.3, RFC 8463).

A libmilter thread can not be stopped, and what is verified comes from strangers: so `Workers` hands each message to a child process and kills
it when the time is up. The child (`main`) reads jobs from its standard input and writes a line of JSON for each; it is
also the one place where dkimpy is changed: our canonicalisation in place of its own, and `cryptography` where it would want PyNaCl.
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import json
import os
import pickle
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from . import canonical

PASS, FAIL = "pass", "fail"
_SIZE = struct.Struct("!Q")


class TookTooLong(Exception):
    """The child was killed at its time limit."""


class Busy(Exception):
    """No child was free in time, or it died of something: try later."""


@dataclass(frozen=True, slots=True)
class Job:
    """Fields as (name, the rest of the field); the body; which DKIM-Signature fields to try, counted from the top, with their key records."""

    fields: list[tuple[bytes, bytes]]
    body: bytes
    signatures: list[tuple[int, bytes]]


class Workers:
    """Up to `number` child processes, started when needed; each job has `seconds`."""

    def __init__(self, number: int, seconds: float) -> None:
        self.seconds = seconds
        self._free = threading.BoundedSemaphore(number)
        self._idle: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        atexit.register(self.close)

    def run(self, job: Job) -> list[str]:
        """PASS, FAIL or what was wrong, for each signature of the job. Raises TookTooLong and Busy."""
        if not self._free.acquire(timeout=3 * self.seconds):
            raise Busy
        try:
            return self._run(job)
        finally:
            self._free.release()

    def _run(self, job: Job) -> list[str]:
        child = self._take()
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            child.kill()

        watch = threading.Timer(self.seconds, kill)
        watch.daemon = True
        watch.start()
        answer = b""
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            data = pickle.dumps(job)
            with contextlib.suppress(OSError):
                child.stdin.write(_SIZE.pack(len(data)))
                child.stdin.write(data)
                child.stdin.flush()
                answer = child.stdout.readline()
        finally:
            watch.cancel()
            watch.join()
            if killed.is_set() or not answer:
                _end(child)
            else:
                with self._lock:
                    self._idle.append(child)
        if killed.is_set():
            raise TookTooLong
        if not answer:
            raise Busy
        found: list[str] = json.loads(answer)
        return found

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.poll() is None:
                    return child
                _end(child)
        # -P: nothing is imported from the folder we happen to stand in; PYTHONPATH: from where this very file is.
        return subprocess.Popen(
            [sys.executable, "-P", "-c", f"from {__name__} import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
        )

    def close(self) -> None:
        """End the children that wait."""
        with self._lock:
            while self._idle:
                _end(self._idle.pop())


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe:
            with contextlib.suppress(OSError):
                pipe.close()


class _Ed25519:
    """What dkimpy asks of nacl.signing.VerifyKey."""

    def __init__(self, text: bytes, encoder: Any) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(base64.b64decode(text))

    def verify(self, digest: bytes, signature: bytes) -> None:
        self._key.verify(signature, digest)


def prepare() -> None:
    """Change dkimpy in this process."""
    dkim.canonicalization.Simple.canonicalize_body = staticmethod(canonical.simple_body)
    dkim.canonicalization.Relaxed.canonicalize_body = staticmethod(canonical.relaxed_body)
    # dkimpy's own strips more than blanks from fields, and other verifiers do not.
    dkim.canonicalization.Relaxed.canonicalize_headers = staticmethod(canonical.relaxed_fields)
    dkim.nacl = SimpleNamespace(
        signing=SimpleNamespace(VerifyKey=_Ed25519),
        encoding=SimpleNamespace(Base64Encoder=None),
        exceptions=SimpleNamespace(ValueError=ValueError, BadSignatureError=InvalidSignature),
    )


def check(job: Job) -> list[str]:
    """Try the signatures of a job, up to the first that passes."""
    found: list[str] = []
    for index, key in job.signatures:
        signed = dkim.DKIM()
        # Not from the bytes: dkimpy would cut the header in its own way, and there must be one view of who is in From.
        signed.headers = [[name, rest] for name, rest in job.fields]
        signed.body = job.body
        found.append(_check(signed, index, key))
        if found[-1] == PASS:
            break
    return found


def _check(signed: Any, index: int, key: bytes) -> str:
    try:
        return PASS if signed.verify(index, dnsfunc=lambda _name, timeout=0: key) else FAIL
    except Exception as error:  # dkimpy lets out IndexError, ValueError, … for what a stranger wrote
        return f"{type(error).__name__}: {error}"[:500]


def serve(jobs: IO[bytes], answers: IO[bytes]) -> None:
    """Do jobs until there are no more."""
    prepare()
    while len(head := jobs.read(_SIZE.size)) == _SIZE.size:
        (size,) = _SIZE.unpack(head)
        job = pickle.loads(jobs.read(size))  # from our parent, who built it
        answers.write(json.dumps(check(job)).encode("ascii") + b"\n")
        answers.flush()


def main() -> None:
    """The child."""
    with contextlib.suppress(KeyboardInterrupt):
        serve(sys.stdin.buffer, sys.stdout.buffer)
