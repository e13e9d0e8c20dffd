"""`container exists` and `image exists`: an exit code for scripts."""

from __future__ import annotations

from ..errors import NotFound
from . import reads
from .flags import Call, Command, Flag


def _container(call: Call) -> int:
    try:
        reads.container(reads.store(call.layout), call.arguments[0])
    except NotFound:
        return 1
    return 0


def _image(call: Call) -> int:
    try:
        reads.image(reads.store(call.layout), call.arguments[0])
    except NotFound:
        return 1
    return 0


CONTAINER = Command(
    "container exists",
    "CONTAINER",
    "Exit with 0 when there is such a container, with 1 when not",
    (Flag("external", help="Taken for podman's sake: there are no containers of other tools"),),
    (1, 1),
    ("tiffin container exists web",),
    _container,
)

IMAGE = Command(
    "image exists",
    "IMAGE",
    "Exit with 0 when there is such an image here, with 1 when not",
    (),
    (1, 1),
    ("tiffin image exists app:1.0",),
    _image,
)
