"""Names of lists: what one may be (RFC 5321 section 4.5.3.1.1, RFC 2142), and advice where it says too little.

A name becomes the local part of a dozen addresses, and never a path or a word of a shell. On a site of many organisations it should say whose list
it is: nobody knows whose `ca@` that was once there are two boards.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from . import destination
from .config import Config
from .i18n import _
from .models import Domain, MailingList, OldName, now
from .refusal import BadData, CannotCreate, Refusal
from .reply import to_ascii

LONGEST = 50  # as Sympa's; with any of our suffixes it is a local part of at most 64 octets

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.))*(?<![._-])")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The site's own addresses, those every mail host must have (RFC 2142), and those that other list servers and mail systems take for theirs.
_RESERVED = frozenset({
    *destination.SITE, *destination.FUNCTIONS, "admin", "administrator", "bounce", "kelou", "listserv", "mailman", "majordomo", "no-reply",
    "nobody", "noreply", "hostmaster", "root", "security", "sympa", "webmaster",
})  # fmt: skip
_GENERAL = _words("""
    actu actualite actualites adherent adherente adherents administrateurs administration agenda all alle annonce annonces announce asso association
    associations benevole benevoles board bureau ca collectif comite commission communication contact contacts conseil coordination diffusion discuss
    discussion echanges equipe everybody everyone forum general group groupe info infolettre informations infos letter lettre list liste lists mail
    mailing members membre membres message messages news newsletter office orga organisation presidence public salaries secretariat staff
    subscribers support team test tests tous toutes travail tresorerie volunteers
""")
_SMALL = _words("a au aux d de des du en et for in l la le les notre nos of our pour s sur the un une")
_LEGAL = _words("asso association assoc club collectif cooperative federation fondation foundation sarl scic scop society societe")


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence on a name, and a name that would be better; empty if none comes to mind."""

    text: str
    name: str = ""


def check(name: str, domain: str, config: Config, besides: int | None = None) -> str:
    """The name in lower case. Raises BadData for what can be no name, CannotCreate for one that is taken; `besides` is the id of a list
    whose own names do not count."""
    # Not before it is ASCII: the Kelvin sign in lower case is a plain k.
    name = name.strip()
    low = name.lower() if name.isascii() else ""
    if not _NAME.fullmatch(low):
        raise BadData(_("{name!r} can not be a list's name: use letters a to z, digits, and - _ . between them").format(name=name[:80]))
    if len(low) > LONGEST:
        raise BadData(_("a list's name has at most {longest} characters, this one has {length}").format(longest=LONGEST, length=len(low)))
    suffix = next((s for s in destination.FUNCTIONS if low.endswith(f"-{s}")), None)
    if suffix:
        raise CannotCreate(
            _("{name} ends in -{suffix}, which is for the addresses of a list; choose another name").format(name=low, suffix=suffix)
        )
    if low in _RESERVED or low in (word.lower() for word in config["site.command_addresses"]):
        raise CannotCreate(_("{name} is reserved on a mail host; choose another name").format(name=low))
    if MailingList.select().join(Domain).where(Domain.name == domain, MailingList.name == low, MailingList.id != (besides or 0)).exists():
        raise CannotCreate(_("there is a list {address} already; choose another name").format(address=f"{low}@{domain}"))
    old = (
        OldName.select(MailingList.name)
        .join(Domain)
        .switch(OldName)
        .join(MailingList)
        .where(Domain.name == domain, OldName.name == low, OldName.until > now(), OldName.list != (besides or 0))
        .tuples()
        .first()
    )
    if old:
        raise CannotCreate(
            _("{address} still answers for the list {list}, which had that name; choose another").format(
                address=f"{low}@{domain}", list=old[0]
            )
        )
    return low


def advice(name: str, domain: str, organisation: str, config: Config) -> Advice | None:
    """What to say of a name that is too general for a site of many organisations; None if it is fine."""
    words = [word.rstrip("0123456789") for word in re.split(r"[._-]+", name)]
    if not all(word in _GENERAL or word in _SMALL or not word for word in words):
        return None
    for proposed in _proposals(name, organisation):
        try:
            check(proposed, domain, config)
        except Refusal:
            continue
        text = _("{name} is too general a name where many organisations have lists; {proposed} would say whose it is")
        return Advice(text.format(name=name, proposed=proposed), proposed)
    return Advice(
        _("{name} is too general a name where many organisations have lists; put the organisation's name in it").format(name=name)
    )


def _proposals(name: str, organisation: str) -> list[str]:
    """The name with the organisation in front: as it is if it is short, without its small words, or as its initials."""
    words = re.findall(r"[a-z0-9]+", to_ascii(organisation.lower()))
    telling = [word for word in words if word not in _SMALL and word not in _LEGAL] or words
    initials = "".join(word[0] for word in words if word not in _SMALL)
    forms = ["-".join(words), "-".join(telling)]
    short = [form for form in forms if len(form) <= 20] + ([initials] if len(initials) > 1 else [])
    return [f"{form}-{name}" for form in dict.fromkeys([*short, *forms]) if form and form != name]
