"""Run by Mailman's own Python: lists with members. mailman_lists.py DOMAIN NUMBER=FILE…, with MAILMAN_CONFIG_FILE set."""

import os
import sys
from pathlib import Path

from mailman.config import config
from mailman.core.initialize import initialize

initialize(os.environ["MAILMAN_CONFIG_FILE"])

from mailman.interfaces.action import Action  # noqa: E402
from mailman.interfaces.archiver import ArchivePolicy  # noqa: E402
from mailman.interfaces.domain import IDomainManager  # noqa: E402
from mailman.interfaces.listmanager import IListManager  # noqa: E402
from mailman.interfaces.member import MemberRole  # noqa: E402
from mailman.interfaces.styles import IStyleManager  # noqa: E402
from mailman.model.address import Address  # noqa: E402
from mailman.model.member import Member  # noqa: E402
from mailman.model.preferences import Preferences  # noqa: E402
from zope.component import getUtility  # noqa: E402

domain, lists = sys.argv[1], [argument.split("=", 1) for argument in sys.argv[2:]]
if domain not in getUtility(IDomainManager):
    getUtility(IDomainManager).add(domain)
store, addresses = config.db.store, {}
for number, file in lists:
    manager = getUtility(IListManager)
    the_list = manager.get(f"mailman{number}@{domain}") or manager.create(f"mailman{number}@{domain}")
    getUtility(IStyleManager).get("legacy-default").apply(the_list)
    the_list.default_member_action = the_list.default_nonmember_action = Action.accept
    the_list.archive_policy, the_list.digests_enabled, the_list.max_message_size = ArchivePolicy.never, False, 0
    the_list.send_welcome_message = False
    for email in Path(file).read_text().split() if not the_list.members.member_count else ():
        if email not in addresses:
            addresses[email] = Address(email, "")
            addresses[email].preferences = Preferences()
            store.add(addresses[email])
            store.add(addresses[email].preferences)
        member = Member(MemberRole.member, the_list.list_id, addresses[email])
        member.preferences = Preferences()
        store.add(member.preferences)
        store.add(member)
    config.db.commit()
