"""`top`: the processes of a container."""

from __future__ import annotations

import sys

from ..errors import Conflict, DriverError, NotFound, UserError
from . import reads, table
from .flags import Call, Command, Flag

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from ..store.queries import Row


def _row(call: Call) -> tuple[Row, list[str]]:
    """The container, and the words that say what to show."""
    connection = reads.store(call.layout)
    words = list(call.arguments)
    if call.options["latest"]:
        found = reads.rows(connection, "SELECT * FROM containers ORDER BY created DESC LIMIT 1")
        if not found:
            raise NotFound("there are no containers")
        return found[0], words
    if not words:
        raise UserError("top: needs a container", hint="or --latest")
    return reads.container(connection, words[0]), words[1:]


def run(call: Call) -> int:
    if call.options["list_descriptors"]:
        from ..process_table import DESCRIPTORS

        sys.stdout.write("".join(f"{name}\n" for name in DESCRIPTORS))
        return 0
    row, words = _row(call)
    if row["state"] != "running":
        raise Conflict(f"container {row['name']} is {row['state']}", hint="top shows running ones")
    from .. import cgroups, process_table

    pids = process_table.cgroup_pids(cgroups.places(row["cgroup"]))
    pids = pids or process_table.tree(row["pid"])
    wanted = process_table.descriptors(words or process_table.DEFAULT)
    if wanted is None:
        sys.stdout.write(host_ps(words, set(pids)))
        return 0
    found = process_table.Table(process_table.processes(pids), f"/proc/{row['pid']}/root")
    headings = [process_table.DESCRIPTORS[name][0] for name in wanted]
    sys.stdout.write(table.table(headings, found.rows(wanted)))
    return 0


def host_ps(words: list[str], pids: set[int]) -> str:
    """The host's ps(1) with these arguments; of its lines, those of the container's processes.

    Error: UserError for arguments that ps refuses, or that show no pid to know them by.
    """
    import subprocess

    from .printable import line

    try:
        done = subprocess.run(["ps", *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise DriverError("ps is not installed", hint="install it: apt install procps") from None
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode and not lines:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it failed"]
        raise UserError(f"top: ps {' '.join(words)}: {line(said[0])}")
    headings = lines[0].split() if lines else []
    if "PID" not in headings:
        raise UserError(f"top: ps {' '.join(words)} shows no PID", hint="add pid to the columns")
    column = headings.index("PID")
    shown = [lines[0]]
    for text in lines[1:]:
        fields = text.split()
        if len(fields) > column and fields[column].isdecimal() and int(fields[column]) in pids:
            shown.append(text)
    return "".join(f"{line(text)}\n" for text in shown)


TOP = Command(
    "top",
    "CONTAINER [DESCRIPTOR...|PS-ARGUMENT...]",
    "Show the processes of a running container. Descriptors are podman's (--list-descriptors); "
    "pids and names are those in the container. Other words are arguments of the host's ps",
    (
        Flag("latest", "l", help="The container that was made last"),
        Flag("list-descriptors", help="Print the descriptors that there are"),
    ),
    (0, None),
    ("tiffin top web", "tiffin top web pid,comm,capeff", "tiffin top web -o pid,rss,args"),
    run,
    interspersed=False,
)
