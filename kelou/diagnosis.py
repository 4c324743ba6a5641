"""What a failure says of a mailbox: an enhanced status code (RFC 3463) and the words beside it → hard, soft, full, policy or unknown.

The code alone would not do: receivers say 5.1.1 of mail that they take for spam, and 5.0.0 of everything. The words alone would not either: there
are too many. Where the two leave a doubt, the answer is the one that costs no innocent subscriber anything.
"""

from __future__ import annotations

import re
import unicodedata

_TEXT = 2_000  # characters that are looked at


def judge(status: str, text: str) -> str:
    """The kind of a failure that is final. `status` may be empty, `text` anything."""
    words = fold(text)
    said = _said(words)
    numbers = tuple(int(number) for number in status.split(".")) if status else (0, 0, 0)
    if numbers[1:] in _BY_CODE:
        return _BY_CODE[numbers[1:]]
    if numbers[1] in (6, 7):  # content and policy: the mail and its way, never the mailbox
        return "policy"
    if said == "refused":  # a mail or a recipient: the words do not tell
        said = "" if numbers[1] in (1, 2) and _RECIPIENT.search(words) else "policy"
    if said in ("policy", "full"):
        return said
    if numbers[0] == 4:
        return "soft"
    if numbers[0] not in (0, 5):  # a success that is called a failure
        return "unknown"
    if said == "soft":
        return "soft"
    if numbers[1] == 1 or numbers[1:] in ((2, 1), (4, 4), (4, 310)):  # 4.310: a domain that is not there, as Microsoft says it
        return "hard"
    if said:
        return said
    return "soft" if numbers[1] else "unknown"  # of x.0.0 nobody can tell


_RECIPIENT = re.compile(r"recipient|mailbox|user|address|destinataire")
# Second and third number. 1.7 and 1.8 speak of the sender's address, 2.3 and 3.4 of the size.
_BY_CODE: dict[tuple[int, ...], str] = {(1, 7): "policy", (1, 8): "policy", (2, 2): "full", (2, 3): "policy", (3, 4): "policy"}


def fold(text: str) -> str:
    """Text to compare: lower case, no accents, no addresses, links or host names in it (they hold words of their own), one blank between words."""
    return " ".join(_NAMES.sub(" ", _plain(text[: 2 * _TEXT].replace("’", "'")).lower()).split())[:_TEXT]


def _plain(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


_NAMES = re.compile(
    r"https?://[^\s<>]+|<[^<>\s]{1,320}>|[^\s<>@:;,]{1,100}@[^\s<>@:;,]{1,255}|"
    r"(?<![^\s\[(<])(?:[a-z0-9_-]{1,63}\.){1,10}[a-z]{2,20}(?![a-z0-9._-])"
)


def _said(words: str) -> str:
    """What the words alone say; empty if nothing."""
    numbered = _FRENCH_NUMBERS.search(words)
    if numbered:
        return _BY_FRENCH_NUMBER.get(numbered[1], "policy")
    return next((kind for kind, pattern in _WORDS if pattern.search(words)), "")


# Orange and La Poste put a number of their own behind a text that is the same for many things.
_FRENCH_NUMBERS = re.compile(r"\b(?:lpn|ofr|ouk|lps)[0-9]{0,3}[_ -]?([0-9]{3})\b")
_BY_FRENCH_NUMBER = {"416": "hard", "418": "hard", "420": "hard", "426": "hard", "417": "full"}


def _any(lines: str) -> re.Pattern[str]:
    """A pattern that is any of these lines. Repetitions in them are bounded, so that a text takes time in proportion to its length."""
    return re.compile("|".join(_plain(lines).split("\n")[1:-1]))


_POLICY = _any(r"""
spam(?!gourmet)
\bjunk\b
unsolicited
\bu[bc]e\b
\bbulk\b
black ?-?list
block ?-?list
deny ?-?list
liste noire
\b(?:dns|r)bls?\b
\b[sxpc]bl\b
barracudacentral
uceprotect
\bblocked (?:by|using|for|due|because|from|at|on)\b
\byou (?:are|have been) blocked
\bpolic(?:y|ies)\b
politique
richtlinie
reputation
\bdmarc\b
\bspf\b
\bdkim\b
authenticat
authentifi
not (?:be )?(?:authori[sz]ed|allowed|permitted)
(?<!recipient address rejected: )access denied
permission
non autorise
nicht erlaubt
\brelay(?:ing)?\b.{0,30}(?:denied|not|prohibit|reject)
(?:unable|not|n't) (?:to )?relay
rcpthosts
reverse dns
\brdns\b
\bptr\b
\bgr[ae]y ?-?list
liste grise
\bcontent (?:filter|reject|restrict|den|block|scan|is|was|not)
(?:message|mail|due to|its|your|unacceptable|banned) content
virus
malware
phish
infect
trojan
attachment
piece jointe
\bbanned\b
suspicious
suspect
prohibited
forbidden
interdit
\babus(?!e@)
rate ?-?limit
throttl
\brate\b.{0,20}(?:exceed|limit)
(?:hourly|daily|sending|connection) (?:limit|quota)
too many (?:connection|recipient|error|invalid|concurrent|unknown|session|(?:e-?)?mails?\b|messages? (?:from|sent|per))
(?:sender|emetteur|expediteur|mail from|from address)\b.{0,30}(?:reject|den(?:y|ied)|refus|invalid|verif|block|not accept|unknown)
(?:invalid|bad|unknown|forged) (?:sender|from|return|mail from|reverse)
client host
\b[eh][eh]lo\b
\byour (?:ip|server|network|host|domain|mail ?server)
from this (?:ip|server|network|host)
(?:sender|return) (?:address|domain|e-?mail)\b.{0,60}(?:not|n't) (?:exist|found|resolve)
not (?:a )?(?:member|subscriber)
starttls
\btls\b
encrypt
certificate
quarantin
complain
(?:missing|invalid|bad|duplicate|multiple).{0,20}header
\brfc ?[25][0-9]{3}\b
compliant
newsletter
(?<!not )listed (?:in|on|at|by)\b
not accept\w* .{0,30}\bfrom\b
\bip address\b
adresse ip
message (?:size|length|header|line)s?\b.{0,30}(?:exceed|limit|too)
message (?:is )?too (?:large|big|long)
(?:exceed|over|above|larger|maximum)\b.{0,40}message size
exceeded maximum
too (?:large|big)\b
taille .{0,30}(?:limite|depass|maxim)
trop (?:volumineu|gros|grand)
zu gross
smtputf8
non-ascii
internationali[sz]ed
only accept
not on (?:the|my|our) (?:white|allow)
(?:white|allow)list
moderat
only (?:members|subscribers)
closed (?:list|group)
reject(?:ed|ing)? (?:by|due|for|because|as)\b.{0,40}(?:rule|filter|admin|score|security|organi|restrict|reason)
\brestricted\b
security reason
blocage
\bfiltr(?:e|age)
mail rejete
service refuse
""")
_FULL = _any(r"""
over ?-?quota
quota\b.{0,40}(?:exceed|full|depass|uberschrit|superad|exced|overschred|atteint|przekroc)
(?:exceed|excess|depass|exced|super|uberschr|overschr)\w{0,6}\b.{0,40}(?:quota|cuota|cota)\b
quota (?:violation|limit)
disk ?quota
(?:cuota|cota)\b.{0,40}(?:exced|super)
mail ?(?:box|folder|dir|store)?\b.{0,40}\b(?:is|are|was|has been|too)? ?full\b
\bfull mail ?box
\binbox\b.{0,30}\bfull\b
mail ?box_?full
(?:mail ?box|account|recipient|user)\b.{0,40}(?:size|storage|space|disk) (?:limit|allocation|quota)
exceeded storage allocation
out ?of ?storage
(?:not enough|insufficient) (?:storage |disk )?space (?:in|for|on) .{0,20}(?:mailbox|recipient|user|account)
space has been used up
space not enough
too many messages (?:in|on) (?:the|this|his|her)
receiving limits
boi?te.{0,60}(?:pleine|saturee)
messagerie.{0,40}(?:pleine|saturee)
espace.{0,40}(?:sature|insuffisant|depass|epuise)
postfach.{0,40}\bvoll\b
mailbox.{0,20}\bvoll\b
speicherplatz.{0,40}(?:erschopft|uberschr|voll|aufgebraucht)
(?:buzon|bandeja).{0,40}llen[oa]
casella.{0,40}piena
spazio.{0,30}esaurito
caixa.{0,40}cheia
(?:mailbox|postvak|postbus).{0,20}\bvol\b
brevlada.{0,30}\bfull\b
skrzynka.{0,40}(?:pe[lł]na|przepe[lł]nion)
ящик.{0,40}(?:переполнен|заполнен)
(?:превышен|переполнен).{0,40}(?:ящик|квот)
メールボックス.{0,10}(?:いっぱい|一杯)
邮箱.{0,8}(?:已满|满)
信箱.{0,8}(?:已滿|滿)
""")
_SOFT = _any(r"""
try (?:again )?later
not found, try again
reessay
tempor[ai]
vorubergehend
timed? ?-?out
timeout
connection (?:refused|reset|lost|dropped|closed)
no route to host
network (?:is )?unreachable
too many hops
\bloop(?:s|ing)?\b
in the queue too long
(?:message|mail|delivery time) (?:has )?expired
retry time
not responding
receiving (?:e?-?mail|messages) (?:at a rate|too quickly)
too quickly
insufficient system
local error
internal (?:server )?error
configuration error
lost connection
no answer
lookup fail
dns (?:error|fail|query)
could not connect
""")
_HARD = _any(r"""
(?:user|recipient|mailbox|account|address|addressee|person)\b(?: is| was|:)? ?unknown
unknown\b.{0,20}(?:user|recipient|address|mailbox|local|account|e-?mail|destinat)
no such (?:user|recipient|mail ?box|address|person|account|e-?mail|local|domain|host|id|one)
(?:does not|doesn't|did not|didn't|don't) (?:currently )?(?:exist|have an? )
non-? ?existent
not exist
not (?:a )?(?:known|valid|registered|an active|active|listed)\b.{0,20}(?:user|recipient|mailbox|address|account|customer)?
(?:invalid|bad|illegal|incorrect) (?:final delivery )?(?:recipient|mailbox|user|address|destination|rcpt|e-?mail)
(?:recipient|user|mail ?box|account|address|domain|host)\b.{0,80}(?:not|n't) (?:be )?found
(?:recipient|user|mail ?box|account|address)\b.{0,80}(?:no longer|unavailable|disabled|deactivat|inactive|suspended|\bclosed|expired|discontinued|archived)
(?:adresse|destinataire|compte|domaine)\b.{0,80}(?:inconnu|invalide|introuvable|desactive|n'est plus|supprime|bloque|archive)
inactive (?:user|account|mailbox|recipient)
disabled (?:user|account|mailbox|recipient)
mailbox (?:is )?(?:not available|unavailable|not found)
recip(?:ient)?notfound
recipient address rejected: (?:access denied|undeliverable|user|unknown)
no (?:mail ?box|account|user|recipient) (?:here|by|with|found)
nobody (?:here|by)
badrcptto
not our customer
unknown host
host unknown
unrouteable
unroutable
null mx
does not accept mail
has (?:left|moved)
gone away
deceased
destinataire.{0,30}(?:inconnu|invalide|introuvable|n'existe)
utilisateur.{0,20}inconnu
adresse.{0,40}(?:inconnue|invalide|inexistante|erronee|n'existe)
n'existe (?:pas|plus)
inexistant
introuvable
unbekannt
existiert nicht
nicht (?:gefunden|bekannt|vorhanden)
desconocid
no existe
inexistente
sconosciut
desconhecid
nao existe
onbekend
bestaat niet
nicht mehr
\bokand\b
finns inte
nieznany
nie istnieje
не наиден
не существует
неизвестн
不存在
存在しません
见つかりません
""")
_REFUSED = _any(r"""
(?:message|mail|e-?mail|transaction)\b.{0,20}(?:rejected|refused|blocked|filtered|denied|discarded|not accepted)
\bblocked\b
\bdenied\b
\bbloque
rejected by
refused by
\brefuse
\babgelehnt
rechazad
rifiutat
geweigerd
rejete
rejected
""")

# In this order: what is said of the mail counts before what is said of the mailbox.
_WORDS = (("policy", _POLICY), ("full", _FULL), ("soft", _SOFT), ("hard", _HARD), ("refused", _REFUSED))
