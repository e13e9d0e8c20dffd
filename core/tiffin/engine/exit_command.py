"""What conmon runs when a container ends, or an exec that nobody waits for."""

from __future__ import annotations

import os
import sys

from ..layout import Layout

EXITED = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "exited.py")
UNLESS_ATTENDED = """
if [ -e "$1" ]; then
    flock --nonblock --conflict-exit-code 111 "$1" true
    [ $? = 111 ] && exit 0
fi
if [ -e "$2" ]; then
    { flock --shared 9 && ! [ "$2" -ef /proc/self/fd/9 ]; } 9<"$2" && exit 0
fi
if [ -d "${1%/containers/*}/locks" ]; then
    command exec 8>>"${1%/containers/*}/locks/recording-$(( $$ % 4 ))" && flock 8
fi
shift 2
exec "$@"
"""
"""`exited.attended`, in a tenth of the time that Python needs to start. When a command ends the
container (`Locks.ending`), wait for it: once it has recorded the end its file is gone. This only
ever spares the work: when flock is missing or fails, or that command was killed, `exited` looks
itself. Then a container's end waits for its turn: of a thousand that end at once, no more than four
have an interpreter of 8 MB to record it (`exited.LANE`)."""


def of(layout: Layout, cid: str, exec_id: str = "") -> tuple[str, ...]:
    """What conmon runs at the end of a container, or of an exec in it."""
    attended, ending = layout.attended(cid), layout.ending(cid)
    last = [cid, sys.executable]
    if exec_id:
        attended, ending = layout.exec_lock(exec_id), ""
        last.append(exec_id)
    command = (sys.executable, "-I", "-S", EXITED, layout.root, layout.run, *last)
    return "/bin/sh", "-c", UNLESS_ATTENDED, "tiffin-exited", attended, ending, *command
