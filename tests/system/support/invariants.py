"""What must hold between two commands: the log's open intents, the read tables and the machine
agree. Read from SQLite and from the kernel, without the engine."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from . import world

LIVE = ("initialized", "running", "paused", "stopping")


def rows(root: Path, sql: str, *parameters: object) -> list[dict[str, Any]]:
    if not (root / "tiffin.db").exists():
        return []
    address = f"file:{root}/tiffin.db?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, parameters)]


def broken(base: Path) -> list[str]:
    """A line for each disagreement. Only when no command is at work on the store."""
    root, run = base / "root", base / "run"
    containers = {row["id"]: row for row in rows(root, "SELECT * FROM containers")}
    found = [
        f"open intent: {row['stream']} {row['operation']}"
        for row in rows(root, "SELECT * FROM intents")
    ]
    for row in containers.values():
        found += _container(base, row)
    found += _strangers(base, containers)
    found += _pods(base)
    found += _secrets(root)
    found += _images(root, containers)
    found += _volumes(root)
    found += [f"of no build: {path}" for top in (root, run) for path in top.glob("builds/*")]
    found += [f"left in the run root: {path}" for path in _unknown_run(run, containers)]
    return found


def _container(base: Path, row: dict[str, Any]) -> list[str]:
    cid, state = row["id"], row["state"]
    who = f"container {row['name']} ({state})"
    found = []
    if not os.path.isdir(row["directory"]):
        found.append(f"{who}: no directory")
    mounted = any(f"/{cid}/" in f"{mount.target}/" for mount in world.mounts_below(base / "root"))
    if row["storage_driver"] == "vfs":  # a directory is all there is of its mount
        mounted = bool(row["mounted"]) and os.path.isdir(row["mounted"])
    if mounted != bool(row["mounted"]):
        found.append(f"{who}: mounted {mounted}, recorded {row['mounted']!r}")
    if state not in LIVE and mounted and not row["pinned"]:
        found.append(f"{who}: has a mount that nobody asked for")
    netns = os.path.exists(base / "run/netns" / cid)
    if netns != bool(row["netns"]):
        found.append(f"{who}: network namespace {netns}, recorded {row['netns']!r}")
    if state in LIVE:
        if not world.alive(row["pid"]):
            found.append(f"{who}: process {row['pid']} is gone")
        if not world.alive(row["conmon_pid"]):
            found.append(f"{who}: conmon {row['conmon_pid']} is gone")
    else:
        found += [f"{who}: {trace}" for trace in world.traces_of(base, [cid]) if cid in trace
                  and not trace.startswith("mount")]  # fmt: skip
        held = rows(base / "root", "SELECT * FROM addresses WHERE container=?", cid)
        if held and state in ("created", "exited") and row["attachments"] == "[]":
            found.append(f"{who}: holds {held}")
    return found


def _strangers(base: Path, containers: dict[str, Any]) -> list[str]:
    """Directories, mounts, processes and rules of containers that the log does not have."""
    found = []
    named = [*containers, *_other_mounts(base / "root")]
    for pattern in ("root/containers/*", "root/storage/*/containers/*", "run/netns/*"):
        found += [
            f"of no container: {path}" for path in base.glob(pattern) if path.name not in named
        ]
    for mount in world.mounts_below(base):
        if not any(name in mount.target for name in named):
            found.append(f"mount of no container: {mount.target}")
    for pattern in ("userns", "mapped", "drivers/storage-*/mapped"):
        for path in base.glob(f"run/{pattern}/*"):
            if not any(name in path.name for name in named):
                found.append(f"of no container: {path}")
    live = any(row["state"] in LIVE for row in containers.values())
    for pid, name, line in world.processes():
        if name == "aardvark-dns" and live:  # one for all containers on networks with names
            continue
        if f"{base}/" in line and not any(cid in line for cid in named):
            found.append(f"process of no container: {pid} {line}")
    holders = rows(base / "root", "SELECT DISTINCT container FROM addresses")
    found += [
        f"addresses of no container: {row['container']}"
        for row in holders
        if row["container"] not in named
    ]
    return found


def _other_mounts(root: Path) -> set[str]:
    """Part of the path of each mount that is not a container's: of pods, images and volumes."""
    found = {row["id"] for row in rows(root, "SELECT id FROM pods")}
    found |= {row["id"] for row in rows(root, "SELECT id FROM image_mounts")}
    mounted = rows(root, "SELECT name FROM volumes WHERE mounted")
    return found | {f"/volumes/{row['name']}/" for row in mounted}


def _pods(base: Path) -> list[str]:
    """A pod that is down has no namespace, and what has one is a pod's."""
    found = []
    pods = {row["id"]: row for row in rows(base / "root", "SELECT * FROM pods")}
    for row in pods.values():
        held = any(row["id"] in mount.target for mount in world.mounts_below(base))
        if held and not row["up"]:
            found.append(f"pod {row['name']}: is down, and has mounts")
    found += [f"of no pod: {path}" for path in base.glob("*/pods/*") if path.name not in pods]
    return found


def _secrets(root: Path) -> list[str]:
    known = {row["id"] for row in rows(root, "SELECT * FROM secrets")}
    half = [row["name"] for row in rows(root, "SELECT * FROM secrets WHERE NOT complete")]
    found = [f"half a secret: {name}" for name in half]
    return found + [
        f"secret is not recorded: {path}"
        for path in root.glob("secrets/*")
        if not any(sid in path.name for sid in known)
    ]


def _images(root: Path, containers: dict[str, Any]) -> list[str]:
    """Every blob and every layer belongs to an image or a container, and is there."""
    blobs: set[str] = set()
    layers: set[str] = set()
    for image in rows(root, "SELECT * FROM images"):
        parts = json.loads(image["layers"])
        blobs |= {image["id"], image["manifest"], image["index_digest"]}
        blobs |= {part["digest"] for part in parts}
        layers |= {part["chain_id"] for part in parts}
    wanted = {blob.removeprefix("sha256:") for blob in blobs} - {""}
    for row in containers.values():
        layers |= set(json.loads(row["layers"]))
        wanted.add(row["image_id"].removeprefix("sha256:"))
    here = {path.name for path in root.glob("blobs/sha256/*")}
    found = [f"blob of no image: {name}" for name in here - wanted]
    pulled = {blob.removeprefix("sha256:") for blob in blobs} - {""}
    found += [f"blob is missing: {name}" for name in pulled - here]
    recorded = {
        (row["driver"], row["chain_id"].removeprefix("sha256:"))
        for row in rows(root, "SELECT * FROM layers")
    }
    there = {(path.parts[-3], path.name) for path in root.glob("storage/*/layers/*")}
    found += [f"layer is not recorded: {layer}" for layer in there - recorded]
    found += [f"layer is missing: {layer}" for layer in recorded - there]
    known = {layer.removeprefix("sha256:") for layer in layers}
    found += [f"layer of no image: {layer}" for layer in there if layer[1] not in known]
    return found


def _volumes(root: Path) -> list[str]:
    known = {row["name"] for row in rows(root, "SELECT * FROM volumes")}
    there = {path.name for path in root.glob("volumes/*")}
    half = [f"half a volume: {path}" for path in root.glob("volumes/*/_data?*")]
    return [f"volume is not recorded: {name}" for name in there - known] + half


def _unknown_run(run: Path, containers: dict[str, Any]) -> list[Path]:
    return [path for path in run.glob("containers/*") if path.name not in containers]
