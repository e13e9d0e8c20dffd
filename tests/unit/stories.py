"""A small log with known events, for tests of what reads the log."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from tiffin.layout import Layout
from tiffin.store import log, sync

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
WEB, JOB, OLD = "aa" + "0f" * 31, "ab" + "0e" * 31, "ac" + "0d" * 31
IMAGE = "1" * 64
ACTOR = {
    "uid": 0, "loginuid": 1000, "session": 3, "pid": 77, "program": "/usr/bin/python3",
    "front_end": "cli",
}  # fmt: skip


def add(
    layout: Layout, *records: tuple[str, str, dict[str, Any]], at: int, command: str = "c1"
) -> list[int]:
    """Append events `at` seconds after START."""
    sync.create(layout.database)
    with contextlib.closing(sync.open_for_append(layout.database)) as connection:
        made = [log.Record(stream, type_, json.dumps(data)) for stream, type_, data in records]
        actor = json.dumps(ACTOR, sort_keys=True)
        return sync.run(
            connection, log.append(made, command=command, actor=actor, now=START + at * SECOND)
        )


def creation(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": "bb",
        "image_id": f"sha256:{IMAGE}",
        "image_name": "localhost/bb:latest",
        "command": ["sh", "-c", "true"],
        "options": {"image": "bb"},
        "storage_driver": "vfs",
        "runtime": "crun",
        "network": "none",
        "layers": ["sha256:c"],
        "directory": f"/nowhere/{name}",
        **more,
    }


def life(layout: Layout, cid: str, name: str, at: int, *, code: int = 0, gone: bool = True) -> None:
    """A container that is created, runs for 10 s, ends, and is removed 20 s later."""
    stream = f"container/{cid}"
    init = {"runtime": "crun", "bundle": "/b", "program": "/crun", "rootfs": "/r"}
    add(
        layout,
        (stream, "container.creation_planned", creation(name, labels={"meal": "lunch"})),
        (stream, "container.created", {}),
        at=at,
        command=f"{name}-1",
    )
    add(
        layout,
        (stream, "container.init_planned", init),
        (stream, "container.initialized", {"pid": 7, "conmon_pid": 6, "spec": ""}),
        (stream, "container.start_planned", {}),
        (stream, "container.started", {"pid": 7}),
        at=at + 5,
        command=f"{name}-2",
    )
    add(layout, (stream, "container.exited", {"exit_code": code}), at=at + 15, command=f"{name}-2")
    if gone:
        add(
            layout,
            (stream, "container.removal_planned", {}),
            (stream, "container.removed", {}),
            at=at + 35,
            command=f"{name}-3",
        )


def tell(base: Path) -> Layout:
    """An image, a removed container `old`, and `job`, which ended with code 3 and is still there;
    19 events, 0 to 115 s after START."""
    layout = Layout(str(base / "root"), str(base / "run"))
    image = {
        "manifest": "sha256:" + "3" * 64,
        "size": 1000,
        "layers": [{"digest": "sha256:l", "diff_id": "sha256:d", "chain_id": "sha256:c"}],
    }
    add(
        layout,
        ("transfer/t1", "transfer.planned", {"source": "embedded", "reference": "bb",
                                             "storage_driver": "vfs"}),
        (f"image/sha256:{IMAGE}", "image.added", image),
        (f"image/sha256:{IMAGE}", "image.tagged", {"name": "localhost/bb:latest"}),
        ("transfer/t1", "transfer.finished", {"image_ids": [f"sha256:{IMAGE}"]}),
        at=0,
        command="pull",
    )  # fmt: skip
    life(layout, OLD, "old", 10)
    life(layout, JOB, "job", 100, code=3, gone=False)
    return layout
