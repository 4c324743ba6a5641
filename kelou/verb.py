"""The words of commands by mail: verbs, options of a subscription, fields of a list request, each with its synonyms in English and French.

docs/mail-commands.md and docs/commandes.md name them all; a test compares. Words compare without case and accents; `_` stands for a blank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .i18n import N_


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: its name and other words for it, what follows it, who may give it, and a sentence for help.

    `shape` says how kelou.command reads what follows; `who` is all, subscriber, moderator, owner or listmaster.
    """

    name: str
    english: str
    french: str
    shape: str
    arguments: str
    who: str
    help: str


# Sympa's, with its abbreviations; `join` and `leave` are Mailman's. Activating and refusing lists is ours.
VERBS: tuple[Verb, ...] = (
    Verb("help", "hel sos ?", "aide aidez-moi", "none", "", "all", N_("Sends this help.")),
    Verb("lists", "lis list", "listes liste", "none", "", "all", N_("Names the lists of this site that you may see.")),
    Verb("info", "inf", "infos information informations", "list", N_("LIST"), "all", N_("Says what a list is for.")),
    Verb("which", "whi status my_lists", "lesquelles mes_listes mes_abonnements statut", "none", "", "all", N_(
        "Names the lists that you are subscribed to, own or moderate.")),
    Verb("subscribe", "sub join", "abonner s'abonner m'abonner abonnez-moi abonnement demande_d'abonnement inscrire s'inscrire m'inscrire inscription",
        "subscriber", N_("LIST [NAME]"), "all", N_("Subscribes you to a list.")),
    Verb("unsubscribe", "unsub uns signoff sig leave", "désabonner se_désabonner me_désabonner désabonnez-moi désabonnement demande_de_désabonnement "
        "désinscrire se_désinscrire me_désinscrire désinscrivez-moi désinscription", "leaver", N_("LIST|* [EMAIL]"), "all", N_(
        "Unsubscribes you from a list, or from all of them (*). For another address than yours, that address is asked.")),
    Verb("set", "", "régler réglage réglages configurer", "set", N_("LIST|* OPTION"), "subscriber", N_(
        "Changes how you receive a list, or all your lists (*). Owners: set LIST KEY VALUE changes a setting of the list.")),
    Verb("confirm", "con auth", "confirmer", "token", N_("TOKEN"), "all", N_("Confirms what a notice asked you to confirm.")),
    Verb("verify", "ver", "vérifier", "list", N_("LIST"), "all", N_("Says whether your mail is authenticated.")),
    Verb("review", "rev who", "abonnés qui membres", "list", N_("LIST"), "subscriber", N_("Names the subscribers of a list, where they may be shown.")),
    Verb("invite", "inv", "inviter", "person", N_("LIST EMAIL [NAME]"), "subscriber", N_("Invites somebody to subscribe.")),
    Verb("index", "ind", "sommaire", "list", N_("LIST"), "subscriber", N_("Sends the contents of a list's archive.")),
    Verb("get", "", "obtenir", "list", N_("LIST FILE"), "subscriber", N_("Sends a file of a list's archive.")),
    Verb("last", "las", "dernier", "list", N_("LIST"), "subscriber", N_("Sends the newest post of a list's archive.")),
    Verb("modindex", "mod modind", "à_modérer modérer modération", "list", N_("LIST"), "moderator", N_("Names the posts that wait for a moderator.")),
    Verb("distribute", "dis approve", "distribuer approuver", "post", N_("LIST TOKEN"), "moderator", N_("Distributes a held post.")),
    Verb("reject", "rej", "rejeter", "post", N_("LIST TOKEN [REASON]"), "moderator", N_("Rejects a held post. Its author is told, unless it is QUIET REJECT.")),
    Verb("add", "", "ajouter", "person", N_("LIST EMAIL [NAME]"), "owner", N_(
        "Subscribes somebody. add LIST alone takes an attached text file, or else the lines below it, as a batch.")),
    Verb("del", "delete", "supprimer retirer enlever", "person", N_("LIST EMAIL"), "owner", N_("Unsubscribes somebody.")),
    Verb("stats", "sta", "statistiques", "list", N_("LIST"), "owner", N_("Sends figures of a list.")),
    Verb("remind", "rem", "rappel rappeler", "list", N_("LIST|*"), "owner", N_("Reminds each subscriber of the subscription.")),
    Verb("request", "list_request request_list request_a_list", "demander demande demande_de_liste demander_une_liste", "request",
        N_("NAME type=TYPE subject=SUBJECT"), "all", N_("Asks for a new list. request alone brings a form to fill in and send back.")),
    Verb("activate", "", "activer", "token", N_("TOKEN"), "listmaster", N_("Activates a list that was requested.")),
    Verb("refuse", "", "refuser", "token", N_("TOKEN [REASON]"), "listmaster", N_("Refuses a list that was requested.")),
    Verb("quit", "end stop -", "fin quitter terminer", "none", "", "all", N_("Ends the commands: nothing below is read.")),
)  # fmt: skip

# Before a command: nobody is told but who gave it.
QUIET = "quiet silencieux silencieuse silencieusement"

# Of a subscription: Sympa's options, and other words for them.
OPTIONS: Mapping[str, str] = {
    "mail":        "normal each eachmail nodigest regular réception_directe",
    "nomail":      "no_mail ne_pas_recevoir pas_de_messages",
    "suspend":     "vacation suspendre vacances",  # with two dates; without any it is nomail
    "digest":      "compilation",
    "digestplain": "plain_digest compilation_texte",
    "not_me":      "notme not-me sauf_moi sauf_mes_messages",
    "me":          "own_posts mes_messages",
    "conceal":     "hide masquer non_visible",
    "noconceal":   "show afficher visible",
    "summary":     "résumé",
    "notice":      "notification",
    "txt":         "text texte_seul",
    "html":        "",
    "urlize":      "",
}  # fmt: skip

# Of a list request.
FIELDS: Mapping[str, str] = {
    "name":         "nom nom_de_la_liste",
    "type":         "modèle",
    "subject":      "objet sujet",
    "description":  "",
    "organisation": "organization association",
    "language":     "langue",
}  # fmt: skip
