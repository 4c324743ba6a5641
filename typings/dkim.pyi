"""Not typed, or in a way that mypy can not follow (Peewee's fields): everything in it is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
