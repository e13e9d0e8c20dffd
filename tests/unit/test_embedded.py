"""The embedded image: complete, harmless, the same every time."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tiffin import embedded
from tiffin.content import ContentStore
from tiffin.errors import DriverError, NotFound
from tiffin.images import reference


def test_busybox(tmp_path: Path) -> None:
    store = ContentStore(str(tmp_path / "a"))
    image = embedded.make("embedded:busybox", store)
    assert embedded.make("embedded:busybox", ContentStore(str(tmp_path / "b"))) == image
    assert image.names[0] in reference.candidates("embedded:busybox")
    assert image.config.config["Cmd"] == ["sh"]
    with tarfile.open(store.path(image.layers[0].digest)) as archive:
        members = {member.name: member for member in archive}
    assert members["bin/busybox"].isreg() and members["bin/busybox"].mode == 0o755
    assert members["tmp"].mode == 0o1777
    for name in ("bin/sh", "bin/ls", "usr/bin/id", "usr/bin/wc"):
        assert members[name].linkname == "/bin/busybox"
    for name in ("etc/passwd", "etc/group", "etc/hosts", "root", "mnt", "dev", "proc", "sys"):
        assert name in members
    assert len(members) > 200 and all(member.uid == 0 for member in members.values())


def test_other_names_are_unknown(tmp_path: Path) -> None:
    for name in ("embedded:fedora", "embedded:", "busybox"):
        with pytest.raises(NotFound):
            embedded.make(name, ContentStore(str(tmp_path)))


def test_only_a_static_elf_will_do(tmp_path: Path) -> None:
    static = shutil.which("busybox")
    assert static and embedded.is_static(static)
    assert not embedded.is_static("/bin/ls")
    assert not embedded.is_static(str(tmp_path / "missing"))
    for junk in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01" + b"\xff" * 90):
        (tmp_path / "junk").write_bytes(junk)
        assert not embedded.is_static(str(tmp_path / "junk"))
    with pytest.raises(DriverError, match="busybox-static"):
        embedded.applets("/bin/true")
