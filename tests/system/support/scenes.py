"""Every command that changes something, with what goes before it: what `test_torture` kills."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from . import world
from .cli import BUSYBOX, Tiffin, eventually

KITCHEN = Path(__file__).parent / "kitchen"
"""What `build` builds."""
SLEEP = [BUSYBOX, "sleep", "1000"]
PULL = ["pull", BUSYBOX]
RUN = ["run", "-d", "--name=victim", "-p", "127.0.0.1::80", *SLEEP]
QUIET = ["run", "-d", "--name=victim", "--network=none", *SLEEP]
CREATE = ["create", "--name=victim", "-p", "127.0.0.1::80", *SLEEP]
NETWORK = ["network", "create", "torture"]
VOLUME = ["volume", "create", "torture"]
LIST = ["manifest", "create", "victim", BUSYBOX]
POD = ["pod", "create", "victim"]
IN_POD = ["run", "-d", "--pod=victim", "--name=member", *SLEEP]

Step = list[str] | Callable[[Tiffin], None]
BOTH, STORAGE, NONE = "both", "storage", "none"


class Scene(NamedTuple):
    """A command, what goes before it, and what it gives when it is done a second time. `{base}` in
    a word is the directory of the store, `{other}` the other storage driver."""

    args: list[str]
    before: Sequence[Step] = ()
    again: tuple[int, ...] = (0,)
    """Exit codes of the same command when the first had got to its end."""
    after: Sequence[list[str]] = (["rm", "-f", "-t", "0", "victim"],)
    """Takes away what it leaves."""
    drivers: str = BOTH
    """Which it uses: other pairs of the others show nothing new."""


def tar(tiffin: Tiffin) -> None:
    """`{base}/files.tar`"""
    with tarfile.open(tiffin.base / "files.tar", "w") as archive:
        for name in ("dal", "etc/rice"):
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"hot"))


def archive(tiffin: Tiffin) -> None:
    """`{base}/image.tar`, of an image that is not here any more."""
    tar(tiffin)
    saved = str(tiffin.base / "image.tar")
    tiffin("import", "-q", str(tiffin.base / "files.tar"), "localhost/victim:1")
    tiffin("save", "--format=oci-archive", "-o", saved, "localhost/victim:1")
    tiffin("rmi", "localhost/victim:1")


def keep_secret(tiffin: Tiffin) -> None:
    (tiffin.base / "word").write_text("cardamom")
    tiffin("secret", "create", "torture", str(tiffin.base / "word"))


def word(tiffin: Tiffin) -> None:
    (tiffin.base / "word").write_text("cardamom")


def ended_unseen(tiffin: Tiffin) -> None:
    """The container has ended, and nobody was there to tell."""
    conmon, pid = tiffin.conmon("victim"), tiffin.pid("victim")
    world.kill(conmon)
    world.kill(pid)
    eventually(lambda: not world.alive(conmon) and not world.alive(pid))


NO_SECRET = ["secret", "rm", "torture"]
NO_NETWORK = ["network", "rm", "torture"]
NO_VOLUME = ["volume", "rm", "torture"]
NO_CONTAINER = ["rm", "-f", "-t", "0", "victim"]
NO_IMAGE = ["rmi", "-f", "localhost/victim:1"]
NO_LIST = ["manifest", "rm", "victim"]
NO_POD = ["pod", "rm", "-f", "-t", "0", "victim"]

CONTAINERS = {
    "create": Scene(CREATE, [PULL], (0, 125), drivers=STORAGE),
    "create-pull": Scene(
        CREATE, [], (0, 125), after=[NO_CONTAINER, ["rmi", "-f", BUSYBOX]], drivers=STORAGE
    ),
    "mount": Scene(["mount", "victim"], [PULL, CREATE], drivers=STORAGE),
    "unmount": Scene(["unmount", "victim"], [PULL, CREATE, ["mount", "victim"]], drivers=STORAGE),
    "init": Scene(["init", "victim"], [PULL, CREATE], (0, 125)),
    "start": Scene(["start", "victim"], [PULL, CREATE]),
    "start-initialized": Scene(["start", "victim"], [PULL, CREATE, ["init", "victim"]]),
    "run": Scene(RUN, [PULL], (0, 125)),
    "run-rm": Scene(
        ["run", "--rm", "--name=victim", "--network=none", BUSYBOX, "true"], [PULL], (0, 125)
    ),
    "run-replace": Scene(["run", "--replace", *RUN[1:]], [PULL, RUN]),
    "run-userns": Scene(["run", "--userns=auto", *RUN[1:]], [PULL], (0, 125)),
    "run-secret": Scene(
        ["run", "-d", "--name=victim", "--network=none", "--secret=torture", *SLEEP],
        [PULL, keep_secret],
        (0, 125),
        [NO_CONTAINER, NO_SECRET],
    ),
    "run-health": Scene(
        ["run", "--health-cmd=true", "--health-interval=1h", *QUIET[1:]], [PULL], (0, 125)
    ),
    "run-volume": Scene(
        ["run", "-d", "--name=victim", "-v", "torture:/etc", BUSYBOX, "sleep", "1000"],
        [PULL],
        (0, 125),
        [NO_CONTAINER, NO_VOLUME],
    ),
    "run-volume-options": Scene(
        ["run", "-d", "--name=victim", "--network=none", "-v", "torture:/scratch", *SLEEP],
        [PULL, ["volume", "create", "-o", "type=tmpfs", "-o", "o=size=1m", "torture"]],
        (0, 125),
        [NO_CONTAINER, NO_VOLUME],
    ),
    "run-image-mount": Scene(
        ["run", "--mount", f"type=image,source={BUSYBOX},target=/tree", *QUIET[1:]], [PULL],
        (0, 125),
    ),
    "exec": Scene(["exec", "victim", "true"], [PULL, RUN]),
    "exec-detached": Scene(["exec", "-d", "victim", "true"], [PULL, QUIET]),
    "healthcheck": Scene(
        ["healthcheck", "run", "victim"],
        [PULL, ["run", "--health-cmd=true", "--health-interval=1h", *QUIET[1:]]],
    ),
    "kill": Scene(["kill", "victim"], [PULL, RUN], (0, 125)),
    "stop": Scene(["stop", "-t", "0", "victim"], [PULL, RUN]),
    "restart": Scene(["restart", "-t", "0", "victim"], [PULL, RUN]),
    "cleanup": Scene(["container", "cleanup", "victim"], [PULL, RUN, ended_unseen]),
    "recover": Scene(["system", "recover"], [PULL, RUN, ended_unseen]),
    "start-restarts": Scene(
        ["start", "--all"],
        [PULL, ["run", "--restart=always", *RUN[1:]], ended_unseen],
    ),
    "commit": Scene(
        ["commit", "victim", "localhost/victim:1"],
        [PULL, RUN],
        after=[NO_CONTAINER, NO_IMAGE],
    ),
    "rm": Scene(["rm", "victim"], [PULL, CREATE], (0, 1)),
    "rm-force": Scene(["rm", "-f", "-t", "0", "victim"], [PULL, RUN], (0, 1)),
    "rm-userns": Scene(
        ["rm", "-f", "-t", "0", "victim"], [PULL, ["run", "--userns=auto", *RUN[1:]]], (0, 1)
    ),
    "rm-volumes": Scene(
        ["rm", "-f", "-v", "-t", "0", "victim"],
        [PULL, ["run", "-d", "--name=victim", "-v", "/data", BUSYBOX, "sleep", "1000"]],
        (0, 1),
    ),
    "container-prune": Scene(["container", "prune", "-f"], [PULL, CREATE], drivers=STORAGE),
    "pause": Scene(["pause", "victim"], [PULL, RUN], (0, 125)),
    "unpause": Scene(["unpause", "victim"], [PULL, RUN, ["pause", "victim"]], (0, 125)),
    "rename": Scene(
        ["rename", "victim", "victim2"],
        [PULL, CREATE],
        (0, 125),
        [["rm", "-f", "-t", "0", "victim", "victim2"]],
        NONE,
    ),
    "update": Scene(["update", "--pids-limit=77", "victim"], [PULL, RUN]),
    "cp-in": Scene(["cp", __file__, "victim:/tmp/copied"], [PULL, RUN]),
    "cp-in-stopped": Scene(["cp", __file__, "victim:/copied"], [PULL, CREATE], drivers=STORAGE),
    "export": Scene(["export", "-o", "{base}/export.tar", "victim"], [PULL, CREATE],
                    drivers=STORAGE),
    "migrate": Scene(["storage", "migrate", "--to={other}", "victim"], [PULL, CREATE]),
}  # fmt: skip
IMAGES = {
    "pull": Scene(PULL, after=[["rmi", "-f", BUSYBOX]], drivers=STORAGE),
    "rmi": Scene(["rmi", BUSYBOX], [PULL], (0, 1), [], STORAGE),
    "tag": Scene(
        ["tag", BUSYBOX, "localhost/victim:1"], [PULL], after=[["untag", BUSYBOX, *NO_IMAGE[2:]]],
        drivers=NONE,
    ),
    "untag": Scene(
        ["untag", BUSYBOX, "localhost/victim:1"],
        [PULL, ["tag", BUSYBOX, "localhost/victim:1"]],
        (0, 125),
        [["untag", BUSYBOX, *NO_IMAGE[2:]]],
        NONE,
    ),
    "load": Scene(["load", "-i", "{base}/image.tar"], [archive], after=[NO_IMAGE],
                  drivers=STORAGE),
    "import": Scene(
        ["import", "{base}/files.tar", "localhost/victim:1"], [tar],
        after=[NO_IMAGE, ["image", "prune", "-f"]], drivers=STORAGE,
    ),
    "save": Scene(["save", "-o", "{base}/saved.tar", BUSYBOX], [PULL], (0, 125), [], NONE),
    "image-mount": Scene(
        ["image", "mount", BUSYBOX], [PULL], after=[["image", "unmount", BUSYBOX]],
        drivers=STORAGE,
    ),
    "image-unmount": Scene(
        ["image", "unmount", BUSYBOX], [PULL, ["image", "mount", BUSYBOX]], (0, 125), [], STORAGE
    ),
    "image-prune": Scene(
        ["image", "prune", "-a", "-f"], [tar, ["import", "{base}/files.tar", "localhost/victim:1"]],
        after=[], drivers=STORAGE,
    ),
    "build": Scene(
        ["build", "--network=none", "-t", "victim", str(KITCHEN)],
        [PULL],
        after=[["rmi", "-f", "victim"], ["image", "prune", "-f"]],
    ),
    "manifest-create": Scene(LIST, [PULL], (0, 125), [NO_LIST], NONE),
    "manifest-add": Scene(
        ["manifest", "add", "--arch=arm64", "victim", BUSYBOX],
        [PULL, ["manifest", "create", "victim"]], after=[NO_LIST], drivers=NONE,
    ),
    "manifest-annotate": Scene(
        ["manifest", "annotate", "--annotation=meal=lunch", "victim", BUSYBOX], [PULL, LIST],
        after=[NO_LIST], drivers=NONE,
    ),
    "manifest-rm": Scene(["manifest", "rm", "victim"], [PULL, LIST], (0, 1, 125), [], NONE),
}  # fmt: skip
NOUNS = {
    "volume-create": Scene(VOLUME, [], (0, 125), [NO_VOLUME], NONE),
    "volume-import": Scene(
        ["volume", "import", "torture", "{base}/files.tar"], [VOLUME, tar], after=[NO_VOLUME],
        drivers=NONE,
    ),
    "volume-mount": Scene(
        ["volume", "mount", "torture"],
        [["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "torture"]],
        after=[["volume", "unmount", "torture"], NO_VOLUME],
        drivers=NONE,
    ),
    "volume-unmount": Scene(
        ["volume", "unmount", "torture"],
        [
            ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "torture"],
            ["volume", "mount", "torture"],
        ],
        (0, 125),
        [NO_VOLUME],
        NONE,
    ),
    "volume-rm": Scene(["volume", "rm", "torture"], [VOLUME], (0, 1), [], NONE),
    "volume-prune": Scene(["volume", "prune", "-f"], [VOLUME], after=[], drivers=NONE),
    "secret-create": Scene(
        ["secret", "create", "torture", "{base}/word"], [word], (0, 125), [NO_SECRET], NONE
    ),
    "secret-replace": Scene(
        ["secret", "create", "--replace", "torture", "{base}/word"], [keep_secret],
        after=[NO_SECRET], drivers=NONE,
    ),
    "secret-rm": Scene(["secret", "rm", "torture"], [keep_secret], (0, 1, 125), [], NONE),
    "network-create": Scene(NETWORK, [], (0, 125), [NO_NETWORK], NONE),
    "network-rm": Scene(["network", "rm", "torture"], [NETWORK], (0, 1), [], NONE),
    "network-connect": Scene(
        ["network", "connect", "torture", "victim"], [PULL, NETWORK, RUN], (0, 125),
        [NO_CONTAINER, NO_NETWORK],
    ),
    "network-disconnect": Scene(
        ["network", "disconnect", "torture", "victim"],
        [PULL, NETWORK, RUN, ["network", "connect", "torture", "victim"]],
        (0, 125),
        [NO_CONTAINER, NO_NETWORK],
    ),
    "network-update": Scene(
        ["network", "update", "--dns-add=198.51.100.9", "torture"],
        [PULL, NETWORK, ["run", "--network=torture", *RUN[1:]]],
        (0, 125),
        [NO_CONTAINER, NO_NETWORK],
    ),
    "network-of-a-process": Scene(
        ["run", "-d", "--name=victim", "--network=pasta", "-p", "127.0.0.1::80", *SLEEP],
        [PULL], (0, 125), drivers=NONE,
    ),
    "network-of-a-process-end": Scene(
        ["rm", "-f", "-t", "0", "victim"],
        [PULL, ["run", "-d", "--name=victim", "--network=slirp4netns", *SLEEP]],
        (0, 1), drivers=NONE,
    ),
    "network-reload": Scene(["network", "reload", "victim"], [PULL, RUN]),
    "network-prune": Scene(["network", "prune", "-f"], [NETWORK], after=[], drivers=NONE),
    "pod-create": Scene(POD, [], (0, 125), [NO_POD], NONE),
    "pod-run": Scene(
        ["run", "-d", "--pod=new:victim", "--name=member", *SLEEP], [PULL], (0, 125), [NO_POD]
    ),
    "pod-join": Scene(IN_POD, [PULL, POD], (0, 125), [NO_POD]),
    "pod-start": Scene(
        ["pod", "start", "victim"], [PULL, POD, ["create", *IN_POD[2:]]], after=[NO_POD]
    ),
    "pod-stop": Scene(
        ["pod", "stop", "-t", "0", "victim"], [PULL, POD, IN_POD], after=[NO_POD]
    ),
    "pod-restart": Scene(["pod", "restart", "victim"], [PULL, POD, IN_POD], after=[NO_POD]),
    "pod-rm": Scene(NO_POD, [PULL, POD, IN_POD], (0, 1), []),
    "pod-prune": Scene(["pod", "prune", "-f"], [POD], after=[], drivers=NONE),
    "system-prune": Scene(
        ["system", "prune", "-f"], [PULL, NETWORK, CREATE], after=[], drivers=STORAGE
    ),
    "system-compact": Scene(
        ["system", "compact", "--before=0s"], [VOLUME, NO_VOLUME, PULL, QUIET, NO_CONTAINER],
        after=[], drivers=NONE,
    ),
    "system-rebuild": Scene(["system", "rebuild"], [PULL, CREATE], drivers=NONE),
}  # fmt: skip
SCENES = CONTAINERS | IMAGES | NOUNS
