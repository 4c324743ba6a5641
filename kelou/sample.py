"""What each notice is given, by example: a template is checked and shown with these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import policy
from .directory import ListView
from .i18n import _
from .listtype import SETTINGS

LIST = ListView(
    1, "amis", "lists.example.org", "amis.lists.example.org", "open", "discussion", "Les amis du jardin",
    {key: setting.default for key, setting in SETTINGS.items()}, {}, commands="sympa@lists.example.org",
)  # fmt: skip
REPLY = "amis-confirm+x@lists.example.org"
DATE = 1_800_000_000
POST: dict[str, Any] = {
    "number": 12, "author": "jane@example.org", "proved": True, "subject": "Séance", "received": DATE, "expires": DATE, "rule": "moderated",
    "why": lambda: policy.explain("moderated", LIST), "size": 2048, "reply": REPLY,
}  # fmt: skip


def _failing(email: str, score: int | None, why: str = "5.1.1 550 User unknown") -> dict[str, Any]:
    return {"email": email, "score": score, "why": why}


# `answers`, `replied`, `reply_to` and `attached` are what `notice.write` makes fields and parts of; the rest is for the template.
VALUES: dict[str, dict[str, Any]] = {
    "request": {
        "requester": "ask@example.org", "owners": ["a@example.org"], "organisation": "Kaz", "description": "Les amis\ndu jardin", "general": True,
        "proposed": "kaz-ca", "reply_to": REPLY,
    },
    "activated": {"asked": "ca"},
    "refused": {"reason": "Non.\nVraiment."},
    "closed": {"reason": "Fini."},
    "reopened": {},
    "renamed": {"old": "ca@lists.example.org", "until": DATE},
    "subscribed": {"actor": "owner@example.org", "own": False, "replied": False},
    "confirm": {
        "address": "jane@example.org", "wishes": [lambda: _("Subscribe {address} to {list}.").format(address="jane@example.org", list=LIST.address)], "expires": DATE,
        "reply_to": REPLY,
    },
    "subscription": {"person": "jane@example.org", "person_name": "Jane", "number": 7, "expires": DATE, "reply_to": REPLY},
    "subscription_refused": {"reason": "Non.\nVraiment.", "expired": False},
    "reminder": {"address": "jane@example.org"},
    "request_form": {
        "given": dict.fromkeys(("name", "type", "subject", "description", "organisation", "language"), ""),
        "types": [("hotline", "amis@lists.example.org")],
    },
    "invitation": {"by": "owner@example.org", "expires": DATE, "reply_to": REPLY},
    "answer": {
        "subject": "", "results": [{"line": "info amis@lists.example.org", "text": "Séance\n  amis"}], "unknown": ["Hello"], "left": 3, "help": "",
        "commands": LIST.commands,
    },
    "unsubscribed": {},
    "held": {"posts": [POST], "again": True, "reply_to": REPLY},
    "held_several": {"posts": [POST, POST | {"proved": False, "subject": ""}], "again": True},
    "held_author": {"post": POST},
    "confirm_author": {"post": POST, "reply_to": REPLY},
    "rejected": {"post": POST, "reason": "Trop long.\nPardon.", "answers": "<1@example.org>"},
    "expired": {"post": POST},
    "decided": {"post": POST, "by": "joe@example.org", "state": "approved", "reason": "Bien."},
    "bounce_probe": {"why": "5.1.1 550 User unknown"},
    "bounces": {
        "told": [_failing("a@example.org", 50)], "suspended": [_failing("b@example.org", None, "")], "removed": [_failing("c@example.org", 90)],
        "resumed": [_failing("d@example.org", None, "")], "keep": 90,
    },
    "bounces_held": {"failing": [_failing("a@example.org", 80)], "number": 12},
    "complaint": {"email": "a@example.org", "removed": True},
    "answered": {"post": POST, "by": "joe@example.org", "state": "rejected", "changed": False, "reason": ""},
}  # fmt: skip

# What may be missing.
_LEAST: Mapping[str, Any] = {
    "organisation": "", "description": "", "general": False, "proposed": "", "asked": "", "until": None, "actor": "", "reason": "", "answers": "",
    "again": False, "person_name": "", "expired": True, "unknown": [], "left": 0, "why": "", "told": [], "suspended": [], "resumed": [], "keep": 0,
    "removed": False,
}  # fmt: skip

# About the command address; `confirm` may be as well as about a list.
OF_DESK = frozenset({"answer", "request_form"})
OF_BOTH = frozenset({"confirm"})
# What is said before there is a list, or to the listmasters: no list has its own.
OF_SITE = OF_DESK | {"request", "refused", "bounces_held"}


def least(name: str) -> dict[str, Any]:
    """The values of a notice without what may be missing."""
    return {key: _LEAST.get(key, value) for key, value in VALUES[name].items()}
