"""The addresses of a headless Service, as its name resolves from time to time.

Theory of operation
-------------------
What a name resolves to is believed at once. That it has no addresses may mean that nothing runs, or that a resolver
lost its mind for a moment: where there were some before, it is believed when it was said `GONE_AFTER` times in a row.

Pods of a dual-stack Service have an address of each family, and nothing says which two belong together. Only one family
is used: the one with more addresses when first asked, IPv4 if there are as many. It is kept while it has any, since
changing it would make every replica another one; a resolver may have lost the answer for one family, so that it has
none is believed like that there are none at all.
"""

from __future__ import annotations

from proxy.cluster.names import Addresses

GONE_AFTER = 3
NOBODY = Addresses()


class KnownAddresses:
    """See the module's text. `addresses` is None before the first answer."""

    __slots__ = ("_gone", "_ipv6", "addresses")

    def __init__(self) -> None:
        self.addresses: frozenset[str] | None = None
        self._ipv6 = False
        self._gone = 0

    def answer(self, found: Addresses) -> bool:
        """Take in what the name resolved to; whether the addresses are others now."""
        used = found.ipv6 if self._ipv6 else found.ipv4
        if not used and self.addresses:
            self._gone += 1
            if self._gone < GONE_AFTER:
                return False
        self._gone = 0
        if not used or not self.addresses:
            self._ipv6 = len(found.ipv6) > len(found.ipv4)
            used = found.ipv6 if self._ipv6 else found.ipv4
        before, self.addresses = self.addresses, used
        return before != used
