"""Reception: how subscribers receive their lists. Each post, posts together in digests, or none; and nothing while they are on holiday."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from .i18n import N_
from .models import Subscription
from .setting import Kind, choice

DIGESTS = ("digest", "digestplain")  # multipart/digest (RFC 2046 section 5.1.5), and one text (RFC 1153)
RECEIVED = ("mail", *DIGESTS)
MODE = choice(*RECEIVED, "nomail")

_DAY = 86400
_DATE = "([0-9]{4}-[0-9]{2}-[0-9]{2})"
_DAYS = re.compile(rf"(?:du |from )?{_DATE}(?: ?(?:\.\.|/) ?|(?: to| until| au)? ){_DATE}")


def here(today: Any) -> Any:
    """The condition that a subscriber is not on holiday. It ends by itself."""
    return Subscription.suspended_from.is_null() | (Subscription.suspended_from > today) | (Subscription.suspended_until <= today)


def _days(value: Any) -> tuple[int, ...]:
    """When the first day begins and the last one ends, in UTC; nothing for no holidays."""
    text = " ".join(str(value).lower().split())
    if text in ("", "no", "non"):
        return ()
    match = _DAYS.fullmatch(text)
    first, last = (int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in match.groups()) if match else (1, 0)
    if first > last:
        raise ValueError
    return first, last + _DAY


def days(value: Sequence[int]) -> str:
    """Holidays as they are written: the first day and the last."""
    return "..".join(datetime.fromtimestamp(second, UTC).date().isoformat() for second in (value[0], value[1] - _DAY)) if value else "no"


DAYS = Kind("days", N_("the first and the last day, such as 2027-01-01..2027-02-01, or no"), _days, days)
