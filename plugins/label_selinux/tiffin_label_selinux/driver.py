"""The label provider `selinux`."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets

import msgspec
import trio

from tiffin.hooks import DriverContext, LabelRequest, Labels

from . import contexts, files, mcs, wishes

STATE = "/sys/fs/selinux/enforce"
"""There when SELinux is in force, be it enforcing or permissive (selinuxfs)."""


class SELinux:
    name = "selinux"
    option = "label"

    def __init__(self, context: DriverContext) -> None:
        self.root = context.root
        self._enabled: bool | None = None

    def enabled(self) -> bool:
        if self._enabled is None:
            self._enabled = os.path.exists(STATE)
        return self._enabled

    async def allocate(self, request: LabelRequest) -> Labels:
        wanted = wishes.parse(request.options)
        for path in request.relabel:
            files.check(path, os.environ.get("HOME", ""))
        policy = contexts.load()
        return decide(policy, wanted, request, secrets.randbelow(mcs.PAIRS))

    async def prepare(self, labels: Labels) -> None:
        """The policy is the machine's, loaded at boot."""

    async def share(self, directory: str) -> None:
        """What is made in a labelled directory inherits its type: the tree is labelled once. The
        note says that this came to its end."""
        label = str(contexts.load().shared)
        note = f"{self.root}/shared-{hashlib.sha256(directory.encode()).hexdigest()[:16]}"
        if files.label(directory) == label and _read(note) == label:
            return
        label_tree = functools.partial(files.relabel, directory, label, mounts=False)
        await trio.to_thread.run_sync(label_tree)
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        temporary = f"{note}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(label)
        os.replace(temporary, note)

    async def relabel(self, path: str, label: str, *, shared: bool) -> None:
        context = contexts.parse(label)
        if shared:
            lowest = mcs.sensitivity(context.level)
            context = msgspec.structs.replace(context, level=lowest)
        home = os.environ.get("HOME", "")
        label_tree = functools.partial(files.relabel, path, str(context), home=home)
        await trio.to_thread.run_sync(label_tree)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def decide(
    policy: contexts.Contexts, wanted: wishes.Wishes, request: LabelRequest, start: int
) -> Labels:
    """The labels of a container: the policy's contexts with its own pair of categories (from the
    random number `start` on), and with what the user wants.

    Without label separation the process has no label of its own; its files have one that no
    labelled container may read. Error: UserError.
    """
    lowest = mcs.sensitivity(policy.process.level)
    if wanted.disable or request.privileged or request.host_namespaces:
        private = mcs.level(lowest, mcs.RESERVED)
        return Labels(mount_label=str(msgspec.structs.replace(policy.file, level=private)))
    level = wanted.level
    if not level:
        levels = [contexts.parse(label).level for label in request.taken]
        level = mcs.level(lowest, mcs.choose(mcs.pairs(levels), start))
    process = contexts.Context(
        user=wanted.user or policy.process.user,
        role=wanted.role or policy.process.role,
        type=wanted.type or policy.process.type,
        level=level,
    )
    file = contexts.Context(
        user=wanted.user or policy.file.user,
        role=policy.file.role,
        type=wanted.filetype or policy.file.type,
        level=level,
    )
    # A level that the user names may be another container's as well: that is what it is for.
    return Labels(
        process_label=str(process),
        mount_label=str(file),
        claim="" if wanted.level else level,
    )
