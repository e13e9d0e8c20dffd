"""SHA-256 of small things, by CPython's own code: hashlib loads OpenSSL, which costs every command
4 ms and is only quicker for megabytes (`content`, `layer.stream`)."""

from __future__ import annotations

try:
    from _sha256 import sha256 as sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from _sha2 import sha256 as sha256  # type: ignore[import-not-found,unused-ignore,no-redef]
    except ImportError:
        from hashlib import sha256 as sha256
