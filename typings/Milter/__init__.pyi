"""What the milter door uses of pymilter; the rest is Any."""

from collections.abc import Callable
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])
_C = TypeVar("_C", bound=type)

ACCEPT: int
CONTINUE: int
REJECT: int
SKIP: int
TEMPFAIL: int
P_HDR_LEADSPC: int
P_SKIP: int

factory: Callable[[], Base]

class Base:
    _protocol: int
    def getsymval(self, sym: str) -> str | None: ...
    def setreply(self, rcode: str, xcode: str | None = None, msg: str | None = None, *ml: str) -> None: ...
    def addheader(self, field: str, value: str, idx: int = -1) -> None: ...
    def chgheader(self, field: str, idx: int, value: str | None) -> None: ...

def decode(strategy: str) -> Callable[[_F], _F]: ...
def header_leading_space(klass: _C) -> _C: ...
def set_exception_policy(policy: int) -> None: ...
def runmilter(name: str, socketname: str, timeout: int = 0, rmsock: bool = True) -> None: ...
def __getattr__(name: str) -> Any: ...
