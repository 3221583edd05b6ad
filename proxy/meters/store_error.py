"""What can go wrong between the meters and their store.

StoreError
├── StoreUnavailable   no connection, no answer in time, still loading, just failing over: later it may go well
├── StoreRefused       it answers, but not this: wrong password, no permission, out of memory, wrong type of key
└── StoreUrlInvalid    the URL cannot be one
"""

from __future__ import annotations


class StoreError(Exception):
    """Base of the tree above. Texts hold no URL: it may carry a password."""


class StoreUnavailable(StoreError):
    """No usable connection right now."""


class StoreRefused(StoreError):
    """The server answers with an error."""


class StoreUrlInvalid(StoreError):
    """Not the URL of a store; the text says what one looks like."""
