"""What a RUN has beside its image: the mounts of --mount, scripts of heredocs, secrets."""

from __future__ import annotations

import hashlib
import os
import posixpath
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import msgspec
import trio

from ..build import context, state
from ..build.context import Tree
from ..build.mounts import RunMount
from ..dockerfile.expansion import word
from ..dockerfile.instructions import Instruction
from ..errors import NotFound, UserError
from ..events.volume import VolumeCreated
from ..layer.copies import copy_tree
from ..options import Mount
from . import volumes

if TYPE_CHECKING:
    from .build_stage import StageRun

PIPES = "/dev/pipes"
"""Where the script of a heredoc is seen, as with BuildKit."""
SECRET_ENV = "/run/.tiffin-secrets"  # noqa: S105


def write(path: str, text: str, mode: int = 0o644) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        os.fchmod(fd, mode)


def heredoc_text(now: state.State, instruction: Instruction, text: str) -> str:
    """Variables of a COPY's heredoc in place; quotes in it are text."""
    escape = instruction.escape
    kept = text.replace("'", f"{escape}'").replace('"', f'{escape}"')
    try:
        return word(kept, now.variables, escape)
    except ValueError as error:
        raise instruction.error(f"heredoc: {error}") from None


def command(now: state.State, instruction: Instruction) -> tuple[list[str], str, str]:
    """(argument vector, script or "", text for the history) of a RUN."""
    if not instruction.heredocs:
        return state.command(now, instruction), "", ""
    heredocs = instruction.heredocs
    alone = len(heredocs) == 1 and instruction.value.strip().lstrip("0123456789") in (
        f"<<{dash}{quote}{heredocs[0].name}{quote}"
        for dash in ("", "-")
        for quote in ("", '"', "'")
    )
    if alone:
        content = heredocs[0].content
        if content.startswith("#!"):
            shown = f"<<{heredocs[0].name}\n{content}{heredocs[0].name}"
            return [f"{PIPES}/{heredocs[0].name}"], content, shown
        return [*now.shell, content], "", content
    text = instruction.value + "\n"
    text += "".join(f"{one.content}{one.name}\n" for one in heredocs)
    return [*now.shell, text], "", text


class Mounts:
    """All of one RUN; what is opened and mounted stays until the stack is left."""

    def __init__(self, stage: StageRun, instruction: Instruction, stack: AsyncExitStack) -> None:
        self.stage = stage
        self.build = stage.build
        self.instruction = instruction
        self.stack = stack
        self._wanted: list[tuple[RunMount, Tree | None]] = []
        self._secret_env: list[tuple[str, str]] = []

    async def prepare(self, mounts: Sequence[RunMount]) -> list[object]:
        """What of the mounts the step's result depends on."""
        told: list[object] = []
        for mount in mounts:
            if mount.target:
                target = state.absolute(self.stage.state, mount.target)
                mount = msgspec.structs.replace(mount, target=target)
            if mount.type == "secret" and self._secret(mount) is None:
                if mount.required:
                    raise self.instruction.error(
                        f"the secret {mount.id} is not given", f"--secret id={mount.id},src=FILE"
                    )
                continue
            tree = None
            seen = ""
            if mount.type == "bind":
                tree = await self._tree(mount)
                seen = await trio.to_thread.run_sync(self._digest, tree, mount)
            elif mount.origin:
                raise self.instruction.error(f"--mount: {mount.type} takes no from=")
            told.append([msgspec.to_builtins(mount), seen])
            self._wanted.append((mount, tree))
        return told

    async def _tree(self, mount: RunMount) -> Tree:
        if mount.origin:
            return await self.stage.origin(mount.origin, self.stack)
        return self.build.context

    @staticmethod
    def _digest(tree: Tree, mount: RunMount) -> str:
        item = context.Item(tree, mount.source.strip("/") or ".")
        try:
            return context.digest([item], owners=tree.image)
        finally:
            item.close()

    def _secret(self, mount: RunMount) -> bytes | None:
        """Its value; None when it is not given."""
        for secret in self.build.options.secrets:
            if secret.id == mount.id:
                if secret.env:
                    found = os.environb.get(os.fsencode(secret.env))
                    if found is None:
                        raise UserError(f"--secret id={mount.id}: {secret.env} is not set")
                    return found
                try:
                    with open(secret.file, "rb") as file:
                        return file.read(1 << 20)
                except OSError as error:
                    raise UserError(
                        f"--secret id={mount.id},src={secret.file}: {error.strerror}"
                    ) from None
        return None

    async def make(self) -> list[Mount]:
        """The mounts of the container, their sources made."""
        return [await self._one(mount, tree) for mount, tree in self._wanted]

    async def _one(self, mount: RunMount, tree: Tree | None) -> Mount:
        if mount.type == "tmpfs":
            size = (f"size={mount.size}",) if mount.size else ()
            return Mount("tmpfs", mount.target, options=size)
        if mount.type == "secret":
            return self._secret_mount(mount)
        if mount.type == "cache":
            return await self._cache(mount)
        assert tree is not None
        source = tree.real(mount.source.strip("/") or ".")
        if mount.writable:
            source = await trio.to_thread.run_sync(self._copied, source)
            return Mount("bind", mount.target, source)
        return Mount("bind", mount.target, source, ("ro",))

    def _copied(self, source: str) -> str:
        """`rw`: what the command writes is not kept."""
        place = self.build.place("bind")
        if os.path.isdir(source):
            copy_tree(source, place)
            return place
        path = f"{place}/{posixpath.basename(source)}"
        with open(source, "rb") as old, open(path, "xb") as new:
            os.sendfile(new.fileno(), old.fileno(), 0, os.fstat(old.fileno()).st_size)
        os.chmod(path, os.stat(source).st_mode & 0o7777)
        return path

    def _secret_mount(self, mount: RunMount) -> Mount:
        value = self._secret(mount)
        assert value is not None
        directory = f"{self.build.run}/{os.urandom(8).hex()}"
        os.makedirs(directory, mode=0o700)
        path = f"{directory}/secret"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(value)
            os.fchown(fd, mount.uid, mount.gid)
            os.fchmod(fd, mount.mode)
        self.stack.callback(_forget, directory, path)
        target = mount.target
        if mount.env:
            target = f"{SECRET_ENV}/{mount.env}"
            self._secret_env.append((mount.env, target))
        return Mount("bind", target, path, ("ro",))

    async def _cache(self, mount: RunMount) -> Mount:
        """A volume of its own, so that `volume ls` shows it and `volume prune` frees it."""
        engine = self.build.engine
        told = hashlib.sha256(f"{mount.id or mount.target}".encode()).hexdigest()[:16]
        name = f"build-cache-{told}"
        if mount.sharing == "private":
            name += f"-{self.build.id[:8]}"
        if mount.sharing == "locked":
            path = f"{engine.layout.run}/locks/{name}"
            await self.stack.enter_async_context(engine.locks.named(path))
        try:
            row = await volumes.find(engine, name)
        except NotFound:
            directory = volumes.directory(engine, name)
            labels = {"io.tiffin.build-cache": mount.id or mount.target}
            event = VolumeCreated(path=directory, labels=labels)
            await engine.journal().write(f"volume/{name}", event)
            row = await volumes.find(engine, name)
        if not os.path.isdir(row["path"]):
            os.makedirs(row["path"], mode=0o755)
            os.chown(row["path"], mount.uid, mount.gid)
            os.chmod(row["path"], mount.mode)
        options = ("nocopy",) if mount.writable else ("nocopy", "ro")
        return Mount("volume", mount.target, name, options)

    def script(self, text: str) -> Mount:
        """A heredoc that begins with #!, to be executed."""
        name = self.instruction.heredocs[0].name
        place = self.build.place("script")
        write(f"{place}/{name}", text, 0o755)
        return Mount("bind", f"{PIPES}/{name}", f"{place}/{name}", ("ro",))

    def wrapped(self, argv: list[str], instruction: Instruction) -> list[str]:
        """The command, with secrets in its environment: a shell reads them, so that they are in
        nothing that is written down."""
        if not self._secret_env:
            return argv
        if instruction.words is not None or len(argv) < 2:
            raise instruction.error("a secret with env= needs the shell form")
        reads = "".join(
            f'{name}="$(cat {path})"; export {name}; ' for name, path in self._secret_env
        )
        return [*argv[:-1], reads + argv[-1]]


def _forget(directory: str, path: str) -> None:
    os.unlink(path)
    os.rmdir(directory)
