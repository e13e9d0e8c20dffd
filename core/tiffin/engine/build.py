"""`build`: an image from a Dockerfile. Stages run side by side, each as soon as those it needs are
done; each step is a container of its own, through the same commands as everybody's."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from io import BufferedReader
from typing import Protocol

import msgspec
import trio
from msgspec import Struct

from .. import ids
from ..build import plan
from ..build.context import Tree
from ..build.plan import BuildPlan, StagePlan
from ..content import ContentStore
from ..dockerfile import parser
from ..errors import NotFound, TiffinError, UserError
from ..events.build import BuildFailed, BuildFinished, BuildStarted
from ..images import platform, reference
from ..layer.remove import discard_tree
from ..options import Device, Mount, Resources, Ulimit
from . import build_images, drivers, garbage, images, remove
from .base import Engine, command
from .build_images import Draft, Tip
from .build_steps import LABEL, first
from .locks import try_lock
from .run import Attach


class Secret(Struct, frozen=True):
    """`--secret id=ID,src=FILE` or `env=NAME`: where it comes from, never what it is."""

    id: str
    file: str = ""
    env: str = ""


class BuildOptions(Struct, frozen=True, omit_defaults=True):
    """What a user may ask of `build`."""

    context: str
    """Directory; the URL of a repository, a tar or a Dockerfile; `-`: what comes on standard
    input. Empty: there is none."""
    file: str = ""
    """Path of the Dockerfile; empty: Containerfile or Dockerfile of the context."""
    text: str | None = None
    """The Dockerfile itself, when it came another way."""
    ignore_file: str = ""
    names: tuple[str, ...] = ()
    build_args: tuple[tuple[str, str], ...] = ()
    target: str = ""
    cache: bool = True
    squash: bool = False
    squash_all: bool = False
    secrets: tuple[Secret, ...] = ()
    docker_format: bool = False
    env: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    timestamp: int = -1
    """Seconds since 1970 for everything that has a time; -1: the time it is."""
    platform: str = ""
    jobs: int = 0
    """Stages at the same time; 0: no limit."""
    storage_driver: str = ""
    runtime: str = ""
    # Of the containers of RUN:
    network: str = ""
    add_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    security_opt: tuple[str, ...] = ()
    resources: Resources = Resources()
    ulimits: tuple[Ulimit, ...] = ()
    shm_size: int = 0


class Console(Protocol):
    """What a front end brings to show how a build goes. Stages are numbered from 1."""

    def begin(self, stages: int) -> None:
        """So many stages are built."""

    def say(self, stage: int, text: str) -> None:
        """A line."""

    def warn(self, text: str) -> None: ...

    def attach(self, stage: int) -> Attach:
        """For the output of a RUN."""

    def done(self, stage: int) -> None:
        """The stage has nothing more to say."""


class Build:
    """One build: what its stages share."""

    def __init__(
        self, engine: Engine, options: BuildOptions, console: Console, pull: images.Pull
    ) -> None:
        self.engine = engine
        self.options = options
        self.console = console
        self.pull = pull
        self.id = ids.new_id()
        self.stream = f"build/{self.id}"
        self.journal = engine.journal()
        self.scratch = f"{engine.layout.root}/builds/{self.id}"
        """Contexts from a tar, downloads, heredocs."""
        self.run = f"{engine.layout.run}/builds/{self.id}"
        """Secrets: the directory is on a tmpfs, and gone with the machine."""
        self.driver = ""
        self.runtime = ""
        self.tree: Tree | None = None
        self.plan: BuildPlan
        self.behind: trio.Nursery
        """For what the next step need not wait for."""
        self.results: dict[int, Tip] = {}
        self.steps = 0
        self.cached = 0
        self.made: dict[str, Draft] = {}
        """What steps of this build have given, by key: two stages may have the same step."""
        self._at_work: dict[str, trio.Lock] = {}
        self._done: dict[int, trio.Event] = {}
        self._fetching = trio.Lock()
        self._names = 0
        self._remote = False
        """The context was fetched."""

    @property
    def fixed_time(self) -> int | None:
        """UTC ns of --timestamp."""
        return None if self.options.timestamp < 0 else self.options.timestamp * 1_000_000_000

    def now(self) -> int:
        return time.time_ns() if self.fixed_time is None else self.fixed_time

    @property
    def context(self) -> Tree:
        """Error: UserError when there is none."""
        if self.tree is None:
            raise UserError("the build has no context", hint="give a directory instead of -")
        return self.tree

    def step(self, key: str) -> trio.Lock:
        """Held by the stage that does this step; another that has the same waits for it."""
        return self._at_work.setdefault(key, trio.Lock())

    def prefix(self, position: int) -> str:
        """Of a stage's lines: which of several it is."""
        count = len(self.plan.stages)
        return f"[{position}/{count}] " if count > 1 else ""

    def place(self, name: str) -> str:
        """A new directory for something of a step's."""
        self._names += 1
        path = f"{self.scratch}/{self._names}-{name}"
        os.makedirs(path, mode=0o700)
        return path

    @contextlib.contextmanager
    def temporary(self, name: str) -> Iterator[str]:
        """A new directory that is removed again."""
        path = self.place(name)
        try:
            yield path
        finally:
            discard_tree(path)

    async def image(self, given: str, wanted: str = "") -> Tip:
        """An image from here or from a registry. Errors: as `images.obtain`."""
        pull = images.Pull(
            policy=self.pull.policy,
            platform=wanted,
            tls_verify=self.pull.tls_verify,
            progress=self.pull.progress,
        )
        async with self._fetching:
            usable = await images.obtain(self.engine, given, driver=self.driver, pull=pull)
        rows = await self.engine.store.rows("SELECT * FROM images WHERE id=?", (usable.id,))
        if not rows:
            raise NotFound(f"no such image: {given}", hint="it was removed meanwhile")
        return build_images.tip_of(self.engine, rows[0])

    async def stage_image(self, index: int) -> Tip:
        """What a stage has come to in the end; waits for it."""
        await self._done[index].wait()
        return self.results[index]

    async def register(
        self, drafts: Sequence[Draft], annotations: Mapping[str, str] | None = None
    ) -> None:
        replaced = await build_images.register(
            self.engine,
            f"build {self.id[:12]}",
            self.driver,
            drafts,
            docker=self.options.docker_format,
            annotations=annotations,
        )
        if replaced:
            await garbage.sweep(self.engine)

    # --- the whole ------------------------------------------------------------------------------

    async def carry_out(self, archive: BufferedReader | None) -> str:
        from .build_stage import StageRun

        await self._fetch()
        self.read(archive)
        self._done = {one.stage.index: trio.Event() for one in self.plan.stages}
        limit = trio.CapacityLimiter(self.options.jobs or len(self.plan.stages))
        last = self.plan.stages[-1]
        bases: dict[int, Tip] = {}

        async def stage(one: StagePlan) -> None:
            for index in sorted(one.waits):
                await self._done[index].wait()
            async with limit:
                run = StageRun(self, one, final=one is last)
                self.results[one.stage.index] = await run.carry_out()
                bases[one.stage.index] = run.base
            if one is not last:
                self.console.done(one.position)
            self._done[one.stage.index].set()

        self.console.begin(len(self.plan.stages))
        async with trio.open_nursery() as self.behind, trio.open_nursery() as nursery:
            for one in self.plan.stages:
                nursery.start_soon(stage, one)
        tip = self.results[last.stage.index]
        return await self._finish(last.position, tip, bases[last.stage.index])

    async def _finish(self, position: int, tip: Tip, base: Tip) -> str:
        """Squash, annotate, name; returns the image's id."""
        options = self.options
        names = [reference.local_name(name) for name in options.names]
        if (options.squash or options.squash_all) and tip.layers:
            with self.temporary("squashed") as temporary:
                one = await build_images.squash(
                    self.engine,
                    base,
                    tip,
                    temporary,
                    everything=options.squash_all,
                    created=self.now(),
                    fixed=self.fixed_time is not None,
                )
            await self.register([one])
            await self._drop_steps(tip, base)
            tip = one.tip
        if options.annotations:
            rows = await self.engine.store.rows("SELECT * FROM images WHERE id=?", (tip.id,))
            tip = build_images.tip_of(self.engine, rows[0])
            data = ContentStore(self.engine.layout.blobs).read(tip.id)
            await self.register([Draft(tip, data, "", "")], dict(options.annotations))
        await build_images.tag(self.engine, tip.id, names)
        name = options.names[0] if names else ""
        self.console.say(position, f"{self.prefix(position)}COMMIT {name}".rstrip())
        self.console.say(position, f"--> {tip.id[7:18]}")
        for name in names:
            self.console.say(position, f"Successfully tagged {name}")
        self.console.done(position)
        return tip.id

    async def _drop_steps(self, tip: Tip, base: Tip) -> None:
        """A squashed image is not made of its steps' images any more."""
        if tip.id != base.id:
            await images.remove_steps(self.engine, tip.id)

    async def _fetch(self) -> None:
        """A context that is a URL: of a repository, a tar, or a Dockerfile. Errors: UserError,
        DriverError (no git)."""
        from . import build_context, build_git

        given = self.options.context
        changed: dict[str, str] = {}
        if build_context.is_git(given):
            place = self.place("repository")
            changed["context"] = await build_git.fetch(build_git.parse(given), place)
        elif build_context.is_url(given):
            directory = self.place("download")
            name = await trio.to_thread.run_sync(build_context.download, given, directory)
            place = self.place("context")
            text = await trio.to_thread.run_sync(
                build_context.unpack_or_read, f"{directory}/{name}", place, given
            )
            changed = {"context": place} if text is None else {"context": "-", "text": text}
        if changed:
            self._remote = "context" in changed and changed["context"] != "-"
            self.options = msgspec.structs.replace(self.options, **changed)

    def read(self, archive: BufferedReader | None) -> None:
        """Context and Dockerfile. Errors: UserError, NotFound: in one line."""
        from .build_context import dockerfile, ignore, unpack

        options = self.options
        directory = options.context
        if directory == "-":
            directory = self.place("context") if archive is not None else ""
            if archive is not None:
                unpack(archive, directory)
        if directory:
            if not os.path.isdir(directory):
                raise UserError(f"{directory} is not a directory", hint="it is the build's context")
            self.tree = Tree(directory, "the build context")
        inside = archive is not None or self._remote
        name, text = dockerfile(self.tree, options, inside=inside)
        if self.tree is not None:
            self.tree.ignore = ignore(self.tree, name, options.ignore_file)
        parsed = parser.parse(text, name)
        host = platform.host()
        wanted = platform.parse(options.platform)
        self.plan = plan.plan(
            parsed,
            build_args=dict(options.build_args),
            platforms=plan.platform_arguments(wanted, host),
            target=options.target,
            wanted_platform=options.platform,
        )
        if self.plan.unused:
            names = " ".join(self.plan.unused)
            self.console.warn(f"[Warning] one or more build args were not consumed: [{names}]")


@command
async def build(
    engine: Engine,
    options: BuildOptions,
    *,
    console: Console,
    pull: images.Pull,
    archive: BufferedReader | None = None,
) -> str:
    """Build an image; returns its id. `archive`: the context, when it is a tar.

    Errors: UserError (a bad Dockerfile names its line), NotFound, StepFailed (the exit code is the
    command's), ImageError, RegistryError, StorageFull. Nothing half-done is left.
    """
    for name in options.names:
        reference.local_name(name)
    await recover(engine)
    one = Build(engine, options, console, pull)
    one.driver = await drivers.storage_name(engine, options.storage_driver)
    one.runtime = await drivers.runtime_name(engine, options.runtime)
    engine.runtime(one.runtime).program()
    async with engine.locks.named(lock(engine, one.id)):
        started = BuildStarted(
            context=options.context,
            file=options.file,
            names=options.names,
            target=options.target,
            storage_driver=one.driver,
            directories=(one.scratch, one.run),
        )
        try:
            await one.journal.write(one.stream, started)
            for directory in (one.scratch, one.run):
                os.makedirs(directory, mode=0o700)
            image_id = await one.carry_out(archive)
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await _failed(one, error)
            raise
        finally:
            if one.tree is not None:
                one.tree.close()
        with trio.CancelScope(shield=True):
            _clear(engine, one.id, (one.scratch, one.run))
            finished = BuildFinished(image_id=image_id, cached=one.cached, steps=one.steps)
            await one.journal.write(one.stream, finished)
        return image_id


def lock(engine: Engine, build_id: str) -> str:
    return f"{engine.layout.run}/locks/build-{build_id}"


def _clear(engine: Engine, build_id: str, directories: Sequence[str]) -> None:
    for directory in directories:
        discard_tree(directory)
        with contextlib.suppress(OSError):  # another build is at work
            os.rmdir(os.path.dirname(directory))
    try:
        os.unlink(lock(engine, build_id))
    except FileNotFoundError:
        return


async def _failed(one: Build, raised: BaseException) -> None:
    """Take away what is left, and say so. When that fails as well (the disk is full) the intent
    stays open: the next build, or `system recover`, does the rest."""
    error = first(raised)
    code = error.exit_code if isinstance(error, TiffinError) else 125
    failed = BuildFailed(error=str(error) or type(error).__name__, exit_code=code)
    try:
        await _take_away(one.engine, one.id, (one.scratch, one.run))
        await one.journal.write(one.stream, failed)
    except Exception as again:
        if not isinstance(first(again), (TiffinError, OSError, sqlite3.Error)):
            raise


async def _take_away(engine: Engine, build_id: str, directories: Sequence[str]) -> None:
    """What a build has made for itself: containers of its steps, directories."""
    for cid in await _containers(engine, build_id):
        await remove.remove(engine, cid, force=True, ignore_missing=True)
    _clear(engine, build_id, directories)


async def recover(engine: Engine) -> list[str]:
    """Undo what killed builds left: containers of their steps, directories. What their steps gave
    is whole, and stays for the next try."""
    mended = []
    sql = "SELECT * FROM intents WHERE operation='build' ORDER BY seq"
    for intent in await engine.store.rows(sql):
        build_id = intent["stream"].partition("/")[2]
        fd = try_lock(lock(engine, build_id))
        if fd is None:
            continue
        try:
            await _take_away(engine, build_id, intent["data"].get("directories", ()))
            event = BuildFailed(error="the command was killed")
            await engine.journal().write(intent["stream"], event)
        finally:
            os.close(fd)
        mended.append(f"build {build_id[:12]}: undone")
    return mended


async def _containers(engine: Engine, build_id: str) -> list[str]:
    found = await engine.store.rows("SELECT id, labels FROM containers")
    return [row["id"] for row in found if _label(row["labels"]) == build_id]


def _label(labels: Mapping[str, str]) -> str:
    return labels.get(LABEL, "")
