"""Kelou: mailing lists on the Postfix host that is already there."""

__version__ = "0.1.0"
