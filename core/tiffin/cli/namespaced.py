"""Which commands an ordinary user runs in their namespace. Imported for them alone."""

from __future__ import annotations

from ..errors import UserError
from ..layout import Layout

READS = frozenset(
    (
        *("system quadlet", "generate systemd"),
        *("ps", "inspect", "logs", "port", "images", "history", "diff-state", "explain", "events"),
        *("sql", "info", "version", "completion", "search", "login", "logout", "events verify"),
        *("events consumers", "events ack", "events export", "events forget", "events schema"),
        *("events seal", "image exists", "image history", "image inspect", "image ls"),
        *("image search", "image tree", "container exists", "container history"),
        *("container inspect", "container logs", "container ls", "container port"),
        *("manifest exists", "manifest inspect", "manifest ls", "network exists"),
        *("network inspect", "network ls", "plugin inspect", "plugin ls", "plugin new"),
        *("volume exists", "volume inspect", "volume ls", "pod exists", "pod inspect"),
        *("pod logs", "pod ps", "secret exists", "secret inspect", "secret ls", "system info"),
    )
)
"""What is done without: nothing is changed, and nothing looked at that belongs to other ids than
the user's own."""

UNSEEN = frozenset(("mount", "container mount", "image mount", "volume mount"))
"""What shows its result only in there: it is done in `unshare`."""


def enter(name: str, options: dict[str, object], layout: Layout) -> None:
    """Be where this command is to run. Errors: UserError, DriverError."""
    if name in READS and not options.get("size"):
        return
    if name in UNSEEN:
        raise UserError(
            f"{name}: from here nobody sees what is mounted in your namespace",
            hint=f"tiffin unshare, and in that shell: tiffin {name}",
        )
    from ..rootless import enter

    enter.enter(layout.uid)
