"""Postfix takes what the templates of postfix-conf/ become, and they say what design.md decided."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kelou import postfixconf

DOMAINS = ["lists.example.org", "listes.example.fr"]


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n" + postfixconf.main(DOMAINS, "kelou"))
    (tmp_path / "master.cf").write_text(postfixconf.master("127.0.0.1:10026", "127.0.0.1:10027", "kelou"))
    return tmp_path


def postconf(etc: Path, *arguments: str) -> str:
    done = subprocess.run(["/usr/sbin/postconf", "-c", str(etc), *arguments], capture_output=True, text=True, check=True)
    assert not done.stderr, done.stderr
    return done.stdout


def test_no_complaint(etc: Path) -> None:
    """postconf finds neither an unused nor an undefined parameter in them."""
    postconf(etc, "-n")
    postconf(etc, "-M")
    postconf(etc, "-P")


@pytest.mark.parametrize("address", ["lists.example.org", "listes.example.fr"])
def test_transport(etc: Path, address: str) -> None:
    """Each list domain goes to the LMTP handler, by a socket named from the queue directory."""
    table = postconf(etc, "-hx", "transport_maps").strip()
    done = subprocess.run(["/usr/sbin/postmap", "-c", str(etc), "-q", address, table], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "kelou:unix:kelou/lmtp.sock"


def test_no_live_transport(etc: Path) -> None:
    """transport_maps asks nobody: a map that does not answer would stop all of the host's mail."""
    assert "socketmap" not in postconf(etc, "-hx", "transport_maps")


def test_no_domain(etc: Path) -> None:
    """A site without a list domain yet has a configuration that Postfix takes."""
    (etc / "main.cf").write_text("compatibility_level = 3.6\n" + postfixconf.main([], "kelou"))
    table = postconf(etc, "-hx", "transport_maps").strip()
    done = subprocess.run(["/usr/sbin/postmap", "-c", str(etc), "-q", "example.org", table], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("service", "parameter", "value"),
    [
        ("kelou/unix", "lmtp_line_length_limit", "0"),
        ("kelou/unix", "disable_mime_output_conversion", "yes"),
        ("kelou/unix", "lmtp_send_xforward_command", "yes"),
        ("127.0.0.1:10026/inet", "local_header_rewrite_clients", ""),
        ("127.0.0.1:10026/inet", "message_size_limit", "0"),
        ("127.0.0.1:10026/inet", "milter_macro_daemon_name", postfixconf.REINJECTION),
        ("127.0.0.1:10027/inet", "smtpd_milters", ""),
        ("127.0.0.1:10027/inet", "mynetworks", "127.0.0.0/8,[::1]/128"),
        ("127.0.0.1:10027/inet", "smtpd_client_restrictions", "permit_mynetworks,reject"),
        ("127.0.0.1:10026/inet", "cleanup_service_name", "kelou-cleanup"),
        ("kelou-cleanup/unix", "in_flow_delay", "0"),
    ],
)
def test_services(etc: Path, service: str, parameter: str, value: str) -> None:
    """The services have the options that their reasons tell of."""
    assert postconf(etc, "-Ph", f"{service}/{parameter}").strip() == value


def test_default_actions(etc: Path) -> None:
    """Without its milter a public port goes on, and the port that signs does not."""
    assert "default_action=accept" in postconf(etc, "-hx", "smtpd_milters")
    assert "default_action=tempfail" in postconf(etc, "-Ph", "127.0.0.1:10026/inet/smtpd_milters")


def test_missing_value() -> None:
    """A placeholder without a value is an error, never a word in a configuration."""
    with pytest.raises(KeyError):
        postfixconf.render("sandbox-master.cf", smtp=1)
