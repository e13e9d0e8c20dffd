"""`diff`, `image tree`, `image mount`: what is in layers, and what changed over them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support import world
from support.cli import BUSYBOX, Tiffin

CHANGE = "mkdir /d; echo x > /d/x; rm /bin/arch; echo y >> /etc/passwd; touch /tmp/y"
CHANGES = ["C /bin", "D /bin/arch", "A /d", "A /d/x", "C /etc", "C /etc/passwd", "C /tmp",
           "A /tmp/y"]  # fmt: skip


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_of_containers_and_images(tiffin: Tiffin, driver: str) -> None:
    # "web": what is hexadecimal would now and then be the beginning of an image's id.
    chosen = tiffin.using(f"--storage-driver={driver}")
    chosen("run", "--network=none", "--name=web", BUSYBOX, "sh", "-c", CHANGE)
    assert chosen("diff", "web").lines == CHANGES
    assert chosen("container", "diff", "-l").lines == CHANGES
    assert json.loads(chosen("diff", "--format=json", "web").out) == {
        "changed": ["/bin", "/etc", "/etc/passwd", "/tmp"],
        "deleted": ["/bin/arch"],
        "added": ["/d", "/d/x", "/tmp/y"],
    }
    chosen("commit", "-q", "web", "im")
    assert chosen("diff", "im").lines == CHANGES
    assert chosen("image", "diff", "im").lines == CHANGES
    assert chosen("diff", "im", BUSYBOX).lines == CHANGES
    assert "D /d" in chosen("diff", BUSYBOX, "im").lines
    assert chosen("diff", "web", "im").lines == []
    assert chosen("image", "diff", BUSYBOX).lines[0] == "A /bin"
    assert not world.mounts_below(tiffin.base)
    tiffin.fails("diff", "nothing", says="nothing")
    tiffin.fails("diff", "--format={{.}}", "web", says="json")
    tiffin.fails("container", "diff", "im", says="no such container")
    tiffin.fails("image", "diff", "web", says="no such image")


def test_what_a_start_makes_is_no_change(shared: Tiffin) -> None:
    name = shared.detached(BUSYBOX, "sleep", "1000")
    assert shared("diff", name).lines in ([], ["C /etc"])
    shared("rm", "-f", "-t", "0", name)


@pytest.mark.parametrize("driver", ["overlay", "vfs"])
def test_an_images_tree_is_mounted(tiffin: Tiffin, driver: str) -> None:
    chosen = tiffin.using(f"--storage-driver={driver}")
    chosen("pull", BUSYBOX)
    path = chosen("image", "mount", BUSYBOX).word
    assert os.path.exists(f"{path}/bin/busybox")
    if driver == "overlay":
        with pytest.raises(OSError):
            Path(f"{path}/new").touch()
    assert chosen("image", "mount", BUSYBOX).word == path
    assert chosen("image", "mount").lines == [f"localhost/embedded:busybox  {path}"]
    (listed,) = json.loads(chosen("image", "mount", "--format=json").out)
    assert listed["mountpoint"] == path
    chosen.fails("rmi", BUSYBOX, code=2, says="mounted")
    world.unmount_below(tiffin.base)
    assert chosen("image", "mount", BUSYBOX).word == path, "again, as after a reboot"
    assert os.path.exists(f"{path}/bin/busybox")
    image = chosen("images", "-q", "--no-trunc").word.removeprefix("sha256:")
    assert chosen("image", "unmount", BUSYBOX).word == image
    assert not os.path.exists(path)
    chosen.fails("image", "unmount", BUSYBOX, says="not mounted")
    chosen("image", "mount", "-a")
    chosen("image", "umount", "-a")
    chosen("image", "mount", BUSYBOX)
    chosen("rmi", "-f", BUSYBOX)


def test_tree(tiffin: Tiffin) -> None:
    tiffin("run", "--network=none", "--name=a", BUSYBOX, "touch", "/x")
    tiffin("commit", "-q", "a", "im")
    lines = tiffin("image", "tree", "im").lines
    assert lines[1:4:2] == ["Tags:     [localhost/im:latest]", "Image Layers"]
    assert lines[4].startswith("├── ID: ")
    assert lines[4].endswith("Top Layer of: [localhost/embedded:busybox]")
    assert lines[5].startswith("└── ID: ")
    assert lines[5].endswith("Size:      0B Top Layer of: [localhost/im:latest]")
    above = tiffin("image", "tree", "--whatrequires", BUSYBOX).lines
    assert above[5].startswith("    └── ID: ") and "localhost/im" in above[5]
    tiffin.fails("image", "tree", "nothing", says="nothing")
