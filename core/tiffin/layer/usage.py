"""How large a tree is."""

from __future__ import annotations

import os
import stat

from ..errors import ImageError
from .walk import open_tree, walk


def tree_size(tree: str, since: int | None = None) -> int:
    """Bytes of the regular files, a file with several names counted once. With `since` (ns), only
    of those that were touched from then on. What is nested too deeply for `walk` is left out."""
    total = 0
    seen: set[int] = set()
    root = open_tree(tree)
    try:
        for item in walk(root):
            if since is not None and item.stat.st_ctime_ns < since:
                continue
            if stat.S_ISREG(item.stat.st_mode) and item.stat.st_ino not in seen:
                total += item.stat.st_size
                if item.stat.st_nlink > 1:
                    seen.add(item.stat.st_ino)
    except ImageError:
        return total  # a container's, nested too deeply: the sizes of all others are still wanted
    finally:
        os.close(root)
    return total
