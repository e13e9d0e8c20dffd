"""Import trio without its look for libpthread, which runs `ldconfig -p` at every start (5 ms).

trio names its threads through pthread_setname_np when it finds the library by name; on glibc since
2.34 the function is in libc itself, which ctypes opens without asking anybody.
"""

from __future__ import annotations

import ctypes.util
import sys


def _libc(name: str) -> str | None:
    return "libc.so.6" if name in ("pthread", "c") else _find(name)


_find, ctypes.util.find_library = ctypes.util.find_library, _libc
try:
    import trio as trio
except Exception:
    # The command line leaves parts of trio out (`cli.leantrio`); a trio that needs one of them is
    # imported again, whole. Anything else fails again, and says why.
    for _name in [name for name in sys.modules if name.partition(".")[0] == "trio"]:
        del sys.modules[_name]
    import trio as trio
finally:
    ctypes.util.find_library = _find
