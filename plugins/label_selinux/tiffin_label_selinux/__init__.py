"""SELinux labels: every container in a domain, and in a pair of categories, of its own."""

from __future__ import annotations

from tiffin.hooks import DriverContext, LabelProvider, hookimpl


@hookimpl
def label_provider(name: str, context: DriverContext) -> LabelProvider | None:
    if name != "selinux":
        return None
    from .driver import SELinux

    return SELinux(context)
