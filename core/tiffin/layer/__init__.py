"""Layers as tars: unpacked, compared and packed. See README.md beside this file.

Every name is imported when it is first used: the worker, which is in this package, is started once
a layer and must import next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .copies import copy_tree as copy_tree
    from .diff import changes as changes
    from .diff import differences as differences
    from .diff import tree_changes as tree_changes
    from .diff import write_tree_diff as write_tree_diff
    from .pack import pack_tree as pack_tree
    from .pack import write_diff as write_diff
    from .remove import remove_tree as remove_tree
    from .run import limits as limits
    from .run import unpack as unpack
    from .stacked import StackedTrees as StackedTrees
    from .staging import discard as discard
    from .staging import publish as publish
    from .staging import staged as staged
    from .staging import store_error as store_error
    from .stream import Limits as Limits
    from .usage import tree_size as tree_size
    from .walk import named as named
    from .whiteouts import OVERLAY_OPAQUE as OVERLAY_OPAQUE
    from .whiteouts import ROOT_NAMED as ROOT_NAMED
    from .whole import WholeTrees as WholeTrees

_WHERE = {
    "OVERLAY_OPAQUE": "whiteouts",
    "ROOT_NAMED": "whiteouts",
    "Limits": "stream",
    "StackedTrees": "stacked",
    "WholeTrees": "whole",
    "changes": "diff",
    "copy_tree": "copies",
    "differences": "diff",
    "discard": "staging",
    "limits": "run",
    "named": "walk",
    "pack_tree": "pack",
    "publish": "staging",
    "remove_tree": "remove",
    "staged": "staging",
    "store_error": "staging",
    "tree_changes": "diff",
    "tree_size": "usage",
    "unpack": "run",
    "write_diff": "pack",
    "write_tree_diff": "diff",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tiffin.layer' has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)
