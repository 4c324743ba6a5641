"""Delivery: a message and one recipient → the Reply. The authority: the milter may have been down, and settings may have changed since.

A 250 says that Postfix has every copy, or that what became of the message is committed. A 5xx makes Postfix bounce, so it is for those only who are
known to have sent the message; what a stranger's post is refused for is held instead, and nobody gets mail they did not ask for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kelou import (
    answer,
    authorseal,
    bounce,
    confirmation,
    consent,
    distribution,
    facts,
    mailcommand,
    maillog,
    moderation,
    outgoing,
    people,
    policy,
    reply,
    returnpath,
)
from kelou.address import AddressError, parse
from kelou.config import Config
from kelou.database import connection
from kelou.destination import Destination, refusal, resolve
from kelou.directory import ListView
from kelou.distribution import Distributor
from kelou.i18n import N_, _, speaking
from kelou.message import Message, field
from kelou.models import now
from kelou.policy import Action, Author, Decision
from kelou.reading import read
from kelou.refusal import Refusal, TryAgain
from kelou.reply import Reply
from kelou.secret import Secret
from kelou.submission import Connection, Unavailable


@dataclass(frozen=True, slots=True)
class Envelope:
    """What came with a message: addresses without brackets, and the queue id Postfix keeps it under."""

    reverse_path: str
    recipient: str
    queue_id: str
    client: str = ""  # the IP address that Postfix had it from


@dataclass(frozen=True, slots=True)
class Door:
    """What a delivery needs of the site."""

    config: Config
    secret: Secret
    distributor: Distributor


def deliver(door: Door, envelope: Envelope, content: bytes) -> Reply:
    """What becomes of the message for this recipient. Raises for our own faults: the server says 451 then."""
    with connection():
        destination = resolve(envelope.recipient, door.config)
        language = destination.list["language"] if destination and destination.list else door.config["site.language"]
        with speaking(language):
            # Of a post, `decide` says more; a trigger is our own, and taken from nobody else by the other door.
            asked = not destination or destination.function not in ("post", "distribute")
            no = refusal(destination, envelope.recipient, door.config) if asked else None
            if no or not destination:
                return _nowhere(door, envelope, content, no or reply.OUR_FAULT)
            return _FUNCTIONS[destination.function](door, destination, envelope, content)


def _nowhere(door: Door, envelope: Envelope, content: bytes, no: Reply) -> Reply:
    """Mail to an address that takes none. Who came by smtpd was told so there; it came past that, or too late, and so did its sender's name."""
    author = authorseal.open(door.secret, Message.parse(content), envelope.queue_id, now())
    bounces = not no.permanent or _may_bounce(envelope.reverse_path, author)
    log = maillog.event if bounces else maillog.problem
    log("refused" if bounces else "dropped", recipient=envelope.recipient, queue_id=envelope.queue_id, reverse_path=envelope.reverse_path, reply=no)
    return no if bounces else reply.DISCARDED


def _post(door: Door, destination: Destination, envelope: Envelope, content: bytes) -> Reply:
    """A post to a list. What was accepted once goes on being distributed, and what was held stays held, whatever the rules say by now."""
    the_list = _list_of(destination)
    digest = distribution.digest_of(content)
    message = Message.parse(content)
    if distribution.known(the_list.id, digest):
        return door.distributor.hand_over(the_list, message, digest, envelope.queue_id)
    if moderation.known(the_list.id, digest):
        return reply.HELD
    author = authorseal.open(door.secret, message, envelope.queue_id, now())
    fails = bool(outgoing.unwanted(message, the_list, door.config, door.distributor.dns))  # where that is not to be known, distribution waits for it
    known = facts.of_message(the_list, envelope.reverse_path, message, len(content), author, digest, from_fails=fails)
    decision = policy.decide(known)
    values = {"list": the_list.address, "rule": decision.rule, "queue_id": envelope.queue_id, "author": author.address}
    values["message_id"] = known.reading.message_id if known.reading else ""
    if decision.action is Action.ACCEPT and known.reading:
        maillog.event("accepted", **values)
        distribution.accept(the_list, known.reading, known.size, digest, envelope.queue_id, door.config, message)
        return door.distributor.hand_over(the_list, message, digest, envelope.queue_id)
    if decision.action is Action.DISCARD:
        maillog.event("discarded", **values)
        return reply.DISCARDED
    if decision.action is Action.REJECT and _may_bounce(known.reverse_path, author):
        maillog.event("refused", reply=decision.reply, **values)
        return decision.reply or reply.OUR_FAULT
    if decision.action is Action.DEFER:
        # "Later" is for the milter's client. Here the seal says the same at each try, and in the end Postfix would send the forged author a bounce.
        decision = Decision(Action.HOLD, "unauthenticated_held", detail=author.why)
    number = moderation.hold(known, decision, content, digest, envelope.queue_id)
    moderation.tell(door.config, known, decision, number)
    return reply.HELD


def _distribute(door: Door, destination: Destination, envelope: Envelope, _content: bytes) -> Reply:
    """Our own message that an approved post is to go out (`moderation.trigger`). Whoever else sent it starts nothing that was not approved."""
    number = int(destination.token)
    found = moderation.approved(number, door.config)
    if not found:
        maillog.event("nothing-to-distribute", id=number, queue_id=envelope.queue_id)
        return reply.OK
    answer = door.distributor.hand_over(*found, envelope.queue_id)
    if answer.code == reply.OK.code:
        moderation.done(number)
    return answer


def _confirm(door: Door, destination: Destination, envelope: Envelope, content: bytes) -> Reply:
    """An answer to a notice, by its key. A program's answer (RFC 3834) decides nothing."""
    message = Message.parse(content)
    reading = read(message)
    row = confirmation.find(destination.token)
    the_list, leaving = destination.list, destination.function == "unsubscribe"
    another = row is not None and ((the_list is not None and row.list_id != the_list.id) or (leaving and row.action != consent.LEAVE))
    if row is None or another or answer.from_program(envelope.reverse_path, message, reading):
        maillog.event("ignored", recipient=envelope.recipient, queue_id=envelope.queue_id, why="program" if row and not another else "key")
        return reply.DISCARDED
    try:
        answer.confirm(door.config, row, destination.domain, message, reading)
    except TryAgain as later:
        maillog.problem("later", recipient=envelope.recipient, reason=later)
    except Refusal as no:  # the key was good, its holder is no moderator any more, or the post is gone
        maillog.event("refused", recipient=envelope.recipient, queue_id=envelope.queue_id, reason=no)
    return reply.OK


def _commands(door: Door, destination: Destination, envelope: Envelope, content: bytes) -> Reply:
    """Mail to the command address, or to an address of a list's that is a command itself, whatever the mail says."""
    the_list, message = destination.list, Message.parse(content)
    author = authorseal.open(door.secret, message, envelope.queue_id, now())
    digest = answer.digest_of(content, envelope.recipient)
    mail = answer.Mail(message, read(message), author, envelope.reverse_path, digest, envelope.client)
    if destination.function == "unsubscribe" and destination.token:
        mark = returnpath.read(door.secret, returnpath.LEAVE, destination.token)
        if not mark or (the_list and mark.list != the_list.id):
            return _confirm(door, destination, envelope, content)
        answer.by_link(door.config, destination.domain, mail, mark)
        return reply.OK
    own = mailcommand.from_function(destination.function, the_list.address) if the_list else None
    answer.take(door.config, destination.domain, mail, own)
    return reply.OK


def _may_bounce(reverse_path: str, author: Author) -> bool:
    """Whether a bounce goes to the author, proved, and to nobody else; to the null reverse-path Postfix sends none (RFC 5321 section 4.5.5)."""
    try:
        return not reverse_path or bool(author.address and parse(reverse_path).key == author.address)
    except AddressError:
        return False


def _people(door: Door, destination: Destination, envelope: Envelope, content: bytes) -> Reply:
    """Mail to owners, moderators or listmasters: passed on as it came, a program's too, because nobody's way to a person is to end here.

    Loops end at Delivered-To (RFC 9228), and failures come back to an address of ours that takes and notes them.
    """
    the_list, message = destination.list, Message.parse(content).without(["Kelou-"])
    address = parse(envelope.recipient).key
    if any(one.text.lower() == address for one in message.all("delivered-to")):
        maillog.problem("loop", recipient=address, queue_id=envelope.queue_id)
        return reply.DISCARDED
    them = people.answerable(the_list.id if the_list else None, "moderator" if destination.function == "moderators" else "owner")
    if not them:
        maillog.problem("nobody-there", recipient=address)
        return Reply(451, "4.3.5", _(N_("Nobody reads {recipient} yet; the message stays queued")).format(recipient=address))
    sender = the_list.sub("bounces") if the_list else f"mailer-daemon@{destination.domain}"
    try:
        with Connection(door.config["postfix.reinjection"]) as postfix:
            forwarded = bytes(message.with_top([field("Delivered-To", address)]))
            outcome = postfix.submit(sender if envelope.reverse_path else "", them, forwarded)
    except Unavailable as error:
        maillog.problem("unavailable", recipient=address, reason=error)
        return reply.OUR_FAULT
    for place, one in (*outcome.refused.items(), *outcome.deferred.items()):
        maillog.problem("recipient", to=them[place], recipient=address, reply=one)
    if not outcome.taken:
        maillog.problem("not-taken", recipient=address, reply=outcome.final)
        if not outcome.final.permanent or outcome.refused:
            return reply.OUR_FAULT
        # Postfix will never take it (too many hops, say), and in the end would send a bounce to whoever was named as the sender.
        author = authorseal.open(door.secret, Message.parse(content), envelope.queue_id, now())
        return outcome.final if _may_bounce(envelope.reverse_path, author) else reply.DISCARDED
    maillog.event("forwarded", recipient=address, people=len(them), queue_id=envelope.queue_id)
    return reply.OK


def _bounces(door: Door, destination: Destination, envelope: Envelope, content: bytes) -> Reply:
    """A report of a delivery that failed: taken always, and noted if it is proved whose it is."""
    bounce.take(door.config, door.secret, destination.list, destination.token, content, envelope.queue_id)
    return reply.OK


def _nobody(_door: Door, _destination: Destination, envelope: Envelope, _content: bytes) -> Reply:
    """Mail to a program's own address: nobody reads it (RFC 5321 section 4.5.5 sends reports of reports nowhere)."""
    maillog.event("discarded", recipient=envelope.recipient, queue_id=envelope.queue_id)
    return reply.DISCARDED


def _list_of(destination: Destination) -> ListView:
    if destination.list is None:
        raise ValueError(destination.function)
    return destination.list


_FUNCTIONS: dict[str, Callable[[Door, Destination, Envelope, bytes], Reply]] = {
    "post": _post,
    "owner": _people,
    "moderators": _people,
    "listmasters": _people,
    "bounces": _bounces,
    "confirm": _confirm,
    "command": _commands,
    "subscribe": _commands,
    "unsubscribe": _commands,
    "distribute": _distribute,
    "nobody": _nobody,
}
