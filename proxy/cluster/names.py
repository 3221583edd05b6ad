"""What a name in the DNS resolves to, and whether there is no such name or just nobody who would say."""

from __future__ import annotations

import socket
from dataclasses import dataclass

_NONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


class NotResolved(Exception):
    """There is no answer; the text says why. `gone`: there is one, and it is that the name has no addresses."""

    def __init__(self, text: str, *, gone: bool = False) -> None:
        super().__init__(text)
        self.gone = gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Those of a name, by family; a pod may have one of each."""

    ipv4: frozenset[str] = frozenset()
    ipv6: frozenset[str] = frozenset()


def lookup(host: str) -> Addresses:
    """The addresses of a name; blocks as long as the resolver does. Raises NotResolved."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NONE:
            raise NotResolved(f"`{host}` has no addresses", gone=True) from None
        raise NotResolved(f"no answer: {error.strerror}") from None
    except (OSError, UnicodeError) as error:
        raise NotResolved(f"no answer: {error}") from None
    by_family = {
        family: frozenset(str(entry[4][0]) for entry in found if entry[0] is family)
        for family in (socket.AF_INET, socket.AF_INET6)
    }
    return Addresses(ipv4=by_family[socket.AF_INET], ipv6=by_family[socket.AF_INET6])
