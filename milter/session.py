"""One connection of Postfix, in the order of the dialogue (libmilter's callbacks): what comes in for lists is judged, what lists send out is signed.

The two ways are told apart by `{daemon_name}`: the re-injection service has a name of its own (`postfixconf.REINJECTION`).

No callback lets an exception out: pymilter would answer for us. `hello` is not defined, because pymilter can not pass a HELO that is no UTF-8.
A message with no recipient of ours is let go at DATA; Postfix sends us no more of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Concatenate, ParamSpec

import Milter

from kelou import authorseal, authres, maillog
from kelou.authentication import authenticate
from kelou.database import connection
from kelou.destination import Destination, refusal, resolve
from kelou.i18n import N_, _, speaking
from kelou.message import CRLF, Field, Message
from kelou.models import now
from kelou.policy import Action, Author, Decision
from kelou.postfixconf import REINJECTION
from kelou.reading import FIELDS
from kelou.reply import OUR_FAULT, Reply, to_ascii
from kelou.secret import AUTHOR, SIGN

from . import verdict
from .signing import signature
from .site import Site

KEEP = 1024**2  # octets of a message that are kept where no list sets a larger limit

_TOO_MANY = N_("This message has more header fields than any mail program writes. Send it again from an ordinary one.")

P = ParamSpec("P")


@dataclass(slots=True)
class Mail:
    """One message on its way in or out, as much of it as was told."""

    reverse_path: str = ""
    announced: int = 0  # SIZE= (RFC 1870)
    login: str = ""
    destinations: list[Destination] = field(default_factory=list)
    others: int = 0  # recipients that are not ours
    header: list[bytes] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    size: int = 0
    keep: int = KEEP
    count: int = 0  # header fields
    own: int = 0  # fields that only we may write, and that came from outside

    @property
    def whole(self) -> bool:
        """Whether all of it is here."""
        return self.size <= self.keep

    def add(self, part: list[bytes], content: bytes) -> None:
        """Take some more of it; what is too large is counted and let go of."""
        self.size += len(content)
        if self.whole:
            part.append(content)
        else:
            self.body.clear()

    def message(self) -> Message:
        return Message.parse(b"".join((*self.header, CRLF, *self.body)))


def guarded(callback: Callable[Concatenate[Session, P], int]) -> Callable[Concatenate[Session, P], int]:
    """Our own fault is 451 and a traceback in the log, for mail that is ours to judge or to sign. Other mail goes on."""

    @functools.wraps(callback)  # with the attributes by which pymilter's decorators work
    def call(session: Session, /, *args: P.args, **kwargs: P.kwargs) -> int:
        try:
            return callback(session, *args, **kwargs)
        except Exception:
            maillog.fault("milter", at=callback.__name__, client=session.client)
            return session.answer(OUR_FAULT) if session.outgoing or session.mail.destinations else Milter.CONTINUE

    return call


@Milter.header_leading_space
class Session(Milter.Base):
    """The state of one connection."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.outgoing = False
        self.daemon = ""
        self.client = ""
        self.mail = Mail()

    @guarded
    def connect(self, hostname: str, family: int, client: tuple[str, int] | str | None) -> int:
        self.client = client[0] if isinstance(client, tuple) else ""
        self.daemon = self.getsymval("{daemon_name}") or ""
        self.outgoing = self.daemon == REINJECTION
        return Milter.CONTINUE

    @guarded
    @Milter.decode("bytes")
    def envfrom(self, reverse_path: bytes, *parameters: bytes) -> int:
        self.mail = Mail(reverse_path=_path(reverse_path))
        self.mail.announced = next((int(p[5:]) for p in parameters if p[:5].upper() == b"SIZE=" and p[5:].isdigit() and len(p) < 20), 0)
        self.mail.login = self.getsymval("{auth_authen}") or ""
        return Milter.CONTINUE

    @guarded
    @Milter.decode("bytes")
    def envrcpt(self, forward_path: bytes, *parameters: bytes) -> int:
        recipient = _path(forward_path)
        if self.outgoing or recipient not in self.site.domains:
            self.mail.others += 1
            return Milter.CONTINUE
        try:
            reply = self.site.apart(self._recipient, recipient)
        except Exception:
            maillog.fault("milter", at="envrcpt", recipient=recipient, client=self.client)
            reply = OUR_FAULT
        return self.answer(reply) if reply else Milter.CONTINUE

    def _recipient(self, recipient: str) -> Reply | None:
        """What is said to a recipient in a list domain, if anything; it is ours from now on if nothing is."""
        mail = self.mail
        with connection(), speaking(self.site.config["site.language"]):
            found = resolve(recipient, self.site.config)
            reply, rule = refusal(found, recipient, self.site.config), "address"
            if found and not reply:
                decision = verdict.of_recipient(found, mail.reverse_path, mail.announced)
                if decision and decision.action in (Action.REJECT, Action.DEFER):
                    reply, rule = decision.reply or OUR_FAULT, decision.rule
        if reply:
            where = found.list.address if found and found.list else ""
            maillog.event("refused", at="RCPT", list=where, recipient=recipient, rule=rule, reverse_path=mail.reverse_path, client=self.client)
        elif found:
            mail.destinations.append(found)
            mail.keep = max(mail.keep, found.list["max_size"] if found.list else 0)
        return reply

    @guarded
    def data(self) -> int:
        return Milter.CONTINUE if self.outgoing or self.mail.destinations else Milter.ACCEPT

    @guarded
    @Milter.decode("bytes")
    def header(self, name: str, value: bytes) -> int:
        if not name.isascii():  # no header field (RFC 5322 section 2.2); Postfix passes none
            return Milter.CONTINUE
        self.mail.count += 1
        if self.mail.count > FIELDS and not self.mail.others:  # each is a question to us, and there may be a million
            maillog.event("refused", at="DATA", rule="fields", reverse_path=self.mail.reverse_path, client=self.client)
            with speaking(self.site.config["site.language"]):
                return self.answer(Reply(550, "5.6.0", _(_TOO_MANY)))
        self.mail.own += name.lower() == (SIGN if self.outgoing else AUTHOR).lower()
        folded = value.replace(b"\r\n", b"\n").replace(b"\n", CRLF)
        blank = b"" if self._protocol & Milter.P_HDR_LEADSPC else b" "
        self.mail.add(self.mail.header, name.encode("ascii") + b":" + blank + folded + CRLF)
        return Milter.CONTINUE

    @guarded
    def eoh(self) -> int:
        self.mail.size += len(CRLF)
        # Nobody asks for a signature, and there is nothing to take off: let it go as it is.
        return Milter.ACCEPT if self.outgoing and not self.mail.own else Milter.CONTINUE

    @guarded
    def body(self, chunk: bytes) -> int:
        self.mail.add(self.mail.body, chunk)
        return Milter.SKIP if not self.mail.whole and self._protocol & Milter.P_SKIP else Milter.CONTINUE

    @guarded
    def eom(self) -> int:
        return self._sign() if self.outgoing else self._judge()

    def _judge(self) -> int:
        mail, message, queue_id = self.mail, self.mail.message(), self.getsymval("i") or ""
        author, refused = self.site.apart(self._decide, message)
        values = {
            "list": ",".join(found.list.address for found in mail.destinations if found.list),
            "reverse_path": mail.reverse_path,
            "message_id": message.text("message-id"),
            "queue_id": queue_id,
            "client": self.client,
        }
        if refused:
            maillog.event("refused", at="DATA", rule=refused.rule, **values)
            return self.answer(refused.reply or OUR_FAULT)
        for index in reversed(authres.forged(message, self.site.config["authors.authserv_ids"])):
            self.chgheader("Authentication-Results", index, None)
        self._take_off(AUTHOR)
        self._put_on(authorseal.seal(self.site.secret, author, queue_id, message, now()))
        maillog.event("passed", author=author.address, why=author.why, **values)
        return Milter.CONTINUE

    def _decide(self, message: Message) -> tuple[Author, Decision | None]:
        """Who wrote, asked once whatever number of lists it goes to, and the answer if nobody takes it."""
        mail = self.mail
        author = authenticate(
            message,
            reverse_path=mail.reverse_path,
            client_ip=self.client,
            helo="",
            sasl_login=mail.login,
            daemon_name=self.daemon,
            config=self.site.config,
            resolver=self.site.dns,
        ).author
        kept = message if mail.whole else None
        with connection():
            decisions = [verdict.of_message(found, mail.reverse_path, kept, mail.size, author, self.site.config, self.site.dns) for found in mail.destinations]
        return author, verdict.for_all([*decisions, *[None] * mail.others])

    def _sign(self) -> int:
        field = self.site.apart(signature, self.mail.message(), self.site, self.getsymval("i") or "")
        self._take_off(SIGN)
        if field:
            self._put_on(field)
        return Milter.CONTINUE

    def _take_off(self, name: str) -> None:
        for index in range(self.mail.own, 0, -1):  # from below, because those behind a field that goes are counted anew
            self.chgheader(name, index, None)

    def _put_on(self, field: Field) -> None:
        name, _colon, value = field.raw.decode("ascii").rstrip("\r\n").replace("\r\n", "\n").partition(":")
        self.addheader(name, value if self._protocol & Milter.P_HDR_LEADSPC else value.lstrip(" "), 0)

    def abort(self) -> int:
        self.mail = Mail()
        return Milter.CONTINUE

    def close(self) -> int:
        self.mail = Mail()
        return Milter.CONTINUE

    def answer(self, reply: Reply) -> int:
        """Say this to the client. libmilter takes one line of ASCII, with each percent sign doubled."""
        self.setreply(str(reply.code), reply.status, to_ascii(reply.text)[:480].replace("%", "%%"))
        return Milter.REJECT if reply.permanent else Milter.TEMPFAIL


def _path(path: bytes) -> str:
    """An envelope address without its angle brackets; what is not UTF-8 in it becomes U+FFFD, and so no address of ours."""
    return path.removeprefix(b"<").removesuffix(b">").decode("utf-8", "replace")
