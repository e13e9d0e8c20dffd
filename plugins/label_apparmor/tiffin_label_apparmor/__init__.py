"""AppArmor: every container under a profile, ours unless another is asked for."""

from __future__ import annotations

from tiffin.hooks import DriverContext, LabelProvider, hookimpl


@hookimpl
def label_provider(name: str, context: DriverContext) -> LabelProvider | None:
    if name != "apparmor":
        return None
    from .driver import AppArmor

    return AppArmor(context)
