"""`kelou completion`: what a shell needs to complete commands and options."""

from __future__ import annotations

import click

from . import manpage, output
from .command import Verb


@click.command("completion", cls=Verb)
@click.argument("shell", type=click.Choice(list(manpage.SHELLS)))
def completion(shell: str) -> None:
    output.data(manpage.completion(shell).rstrip("\n"))


COMMANDS = (completion,)
