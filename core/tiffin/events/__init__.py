"""What can happen, as types: one frozen struct a fact, in the past tense, one module a noun.

A plan (`...Planned`) is an intent: it is committed before the effect and names everything that is
needed to undo it. Its outcome, or `Failed`, closes it. The docstring of each struct is its page in
the documentation.
"""

from __future__ import annotations

from .base import Event, decode, encode, registered

__all__ = ["Event", "decode", "encode", "registered"]
