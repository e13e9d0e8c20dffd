"""One stage of a build: its instructions in order, each from the cache or carried out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager

import trio

from ..build import keys, plan, state
from ..build.context import Item, Tree, select
from ..build.mounts import parse as parse_mounts
from ..build.plan import SCRATCH, StagePlan
from ..dockerfile import lines
from ..dockerfile.instructions import Instruction, make
from ..errors import NotFound, StepFailed, TiffinError
from ..events.build import BuildStepFinished, BuildStepStarted
from ..images import platform
from ..transfer import Layer
from . import build_context, build_git, build_images, build_mounts, build_steps, image_mounts
from .build import Build
from .build_images import Draft, Tip

SHOWN = 200
"""Characters of an instruction in an error."""


class StageRun:
    def __init__(self, build: Build, planned: StagePlan, *, final: bool) -> None:
        self.build = build
        self.planned = planned
        self.final = final
        self.base: Tip
        self.tip: Tip
        self.state: state.State
        self.instructions: list[Instruction] = []
        self.at = 1
        self._pending: list[Draft] = []
        """Images that nothing is mounted of yet: registered together."""
        self._prefix = build.prefix(planned.position)

    # --- output and events ----------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.build.console.say(self.planned.position, text)

    def _announce(self, text: str) -> None:
        total = len(self.instructions) + 1
        self.say(f"{self._prefix}STEP {self.at}/{total}: {text}")

    @property
    def name(self) -> str:
        """Of the container of the current step."""
        return f"build-{self.build.id[:12]}-{self.planned.position}-{self.at}"

    def what(self, instruction: Instruction) -> str:
        where = f"{instruction.file}:{instruction.line}"
        text = instruction.text
        text = f"{text[:SHOWN]}..." if len(text) > SHOWN else text
        return f'building at STEP "{text}" ({where})'

    async def _started(self, instruction: Instruction) -> None:
        """Everything before is registered, and the step is announced in the log."""
        await self.flush()
        event = BuildStepStarted(
            stage=self.planned.position,
            step=self.at,
            line=instruction.line,
            instruction=instruction.text,
        )
        await self.build.journal.write(self.build.stream, event)

    def _finished(self, instruction: Instruction, *, cached: bool, layer: Layer | None) -> None:
        event = BuildStepFinished(
            stage=self.planned.position,
            step=self.at,
            line=instruction.line,
            instruction=instruction.text,
            image_id=self.tip.id,
            cached=cached,
            layer=layer.diff_id if layer else "",
        )
        self.build.journal.note(self.build.stream, event)
        self.build.steps += 1
        self.build.cached += cached
        if cached:
            self.say(f"--> Using cache {self.tip.id[7:]}")
        if not self.final or self.at <= len(self.instructions):
            self.say(f"--> {self.tip.id[7:18]}")

    async def flush(self) -> None:
        """Register what is pending."""
        if self._pending:
            drafts, self._pending = self._pending, []
            await self.build.register(drafts)

    # --- the stage ------------------------------------------------------------------------------

    async def carry_out(self) -> Tip:
        """The image at the end."""
        build = self.build
        self.instructions = self._own()
        self._announce(self.planned.stage.base.text)
        try:
            await self._from()
            for instruction in self.instructions:
                self.at += 1
                self._announce(instruction.text)
                await self._step(instruction)
        except BaseException:  # a cancellation as well; raised again
            with trio.CancelScope(shield=True):
                await self.flush()
            raise
        await self.flush()
        await build.journal.flush()
        return self.tip

    def _own(self) -> list[Instruction]:
        """The stage's instructions, with those that the command line adds."""
        options, base = self.build.options, self.planned.stage.base
        found = list(self.planned.stage.instructions)
        if options.env:
            found.insert(0, plan.added("ENV", options.env, base.file, base.line))
        if options.labels and self.final:
            found.append(plan.added("LABEL", options.labels, base.file, base.line))
        return found

    async def _from(self) -> None:
        build, planned = self.build, self.planned
        instruction = planned.stage.base
        try:
            if planned.base_stage is not None:
                self.tip = await build.stage_image(planned.base_stage)
            elif planned.base == SCRATCH:
                wanted = platform.parse(planned.platform)
                empty = build_images.scratch(wanted, build.fixed_time or 0)
                self.tip = empty.tip
                self._pending.append(empty)
            else:
                self.tip = await build.image(planned.base, planned.platform)
        except Exception as error:
            raise _at(instruction, error) from error
        self.base = self.tip
        self.state = state.begin(self.tip.settings, build.plan)
        triggers = state.triggers(self.tip.settings)
        if triggers:
            parsed = [self._trigger(text, instruction) for text in triggers]
            self.instructions[:0] = parsed

    @staticmethod
    def _trigger(text: str, base: Instruction) -> Instruction:
        """An ONBUILD of the base image. Error: UserError."""
        name = f"ONBUILD of {base.parts[0]}"
        source = lines.read(text, name)
        return make(source.lines[0], name, source.escape)

    async def _step(self, instruction: Instruction) -> None:
        try:
            if instruction.name == "RUN":
                await self._run(instruction)
            elif instruction.name in ("COPY", "ADD"):
                await self._copy(instruction)
            elif instruction.name in ("WORKDIR", "VOLUME"):
                await self._directories(instruction)
            else:
                await self._settings(instruction)
        except StepFailed:
            raise
        except Exception as error:
            raise _at(instruction, error) from error

    def _key(self, what: str, **more: object) -> str:
        options = self.build.options
        return keys.key(
            self.tip.id,
            what,
            time=self.build.fixed_time,
            docker=options.docker_format,
            **more,
        )

    async def _from_cache(self, instruction: Instruction, key: str, after: state.State) -> bool:
        """Take over what an earlier build has made of the same step, or another stage of this."""
        if (one := self.build.made.get(key)) is not None:
            self._pending.append(one)  # the other stage may not have registered it yet
            self.tip, self.state = one.tip, after
            self._finished(instruction, cached=True, layer=None)
            return True
        if not self.build.options.cache:
            return False
        found = await build_images.cached(self.build.engine, self.build.driver, key)
        if found is None:
            return False
        self.tip, self.state = found, after
        self._finished(instruction, cached=True, layer=None)
        return True

    def _made(
        self,
        instruction: Instruction,
        key: str,
        after: state.State,
        created_by: str,
        layer: Layer | None = None,
    ) -> None:
        """The step's image: pending until it is needed."""
        one = build_images.draft(
            self.tip,
            key,
            settings=after.settings,
            created=self.build.now(),
            created_by=created_by,
            author=after.author,
            layer=layer,
        )
        self._pending.append(one)
        self.build.made[key] = one
        self.tip, self.state = one.tip, after
        self._finished(instruction, cached=False, layer=layer)

    # --- the instructions -----------------------------------------------------------------------

    async def _settings(self, instruction: Instruction) -> None:
        after = state.apply(self.state, instruction)
        by = state.created_by(self.state, instruction)
        key = self._key(by, settings=dict(after.settings), author=after.author)
        async with self.build.step(key):
            if not await self._from_cache(instruction, key, after):
                self._made(instruction, key, after, by)

    async def _directories(self, instruction: Instruction) -> None:
        """WORKDIR and VOLUME: settings, and directories that may not be there yet."""
        after = state.apply(self.state, instruction)
        if instruction.name == "WORKDIR":
            user, shown, paths = self.state.user, after.workdir, [after.workdir]
        else:
            user, shown = "", ""
            before = self.state.settings.get("Volumes") or {}
            declared = after.settings.get("Volumes") or {}
            paths = [state.absolute(self.state, path) for path in declared if path not in before]
        by = state.created_by(self.state, instruction, shown)
        key = self._key(by, paths=paths)
        async with self.build.step(key):
            if await self._from_cache(instruction, key, after):
                return
            await self._started(instruction)
            layer = await build_steps.make_directories(self.build, self.tip, self.name, paths, user)
            self._made(instruction, key, after, by, layer)
            await self.flush()

    async def _run(self, instruction: Instruction) -> None:
        before = self.state
        mounts = parse_mounts(instruction, lambda text: before.expand(instruction, text))
        argv, script, shown = build_mounts.command(before, instruction)
        arguments = state.visible_arguments(before)
        network = instruction.flag("network")
        network = "" if network == "default" else network
        async with AsyncExitStack() as stack:
            wanted = build_mounts.Mounts(self, instruction, stack)
            told = await wanted.prepare(mounts)
            by = state.created_by(before, instruction, shown)
            key = self._key(by, argv=argv, script=script, arguments=arguments, mounts=told)
            await stack.enter_async_context(self.build.step(key))
            if await self._from_cache(instruction, key, before):
                return
            await self._started(instruction)
            made = await wanted.make()
            if script:
                made.append(wanted.script(script))
            env = {**state.proxies(before), **arguments}
            layer = await build_steps.run_command(
                self.build,
                self.tip,
                self.name,
                wanted.wrapped(argv, instruction),
                env=tuple(env.items()),
                mounts=made,
                network=network,
                attach=self.build.console.attach(self.planned.position),
                what=self.what(instruction),
            )
            self._made(instruction, key, before, by, layer)
            await self.flush()

    async def _copy(self, instruction: Instruction) -> None:
        before, build = self.state, self.build
        *sources, target = [before.expand(instruction, part) for part in instruction.parts]
        into = target.endswith(("/", "/.")) or target == "."
        path = state.absolute(before, target)
        if into and path != "/":
            path += "/"
        origin = before.expand(instruction, instruction.flag("from"))
        chown = before.expand(instruction, instruction.flag("chown"))
        chmod = before.expand(instruction, instruction.flag("chmod"))
        if chmod and (not chmod.isdigit() or set(chmod) - set("01234567")):
            raise instruction.error(f"--chmod={chmod} is not octal", "for example 755")
        excludes = [
            before.expand(instruction, v) for name, v in instruction.flags if name == "exclude"
        ]
        async with AsyncExitStack() as stack:
            files = stack.enter_context(ExitStack())
            items = await self._items(instruction, sources, origin, stack, files, excludes)
            if not items:
                where = f"the image {origin}" if origin else build.context.what
                raise NotFound(f"{' '.join(sources)} matches nothing in {where}")
            if len(items) > 1 and not into:
                raise instruction.error(
                    f"{target} must end in a slash: there are {len(items)} sources"
                )
            told = await build_steps.digest(items, owners=bool(origin), excludes=excludes)
            kind = "multi" if len(items) > 1 else "dir" if items[0].is_directory else "file"
            by = state.created_by(before, instruction, f"{kind}:{told} in {path}")
            key = self._key(
                by,
                chown=chown,
                chmod=chmod,
                origin=bool(origin),
                user=before.user,
                add=instruction.name == "ADD",
            )
            await stack.enter_async_context(build.step(key))
            if await self._from_cache(instruction, key, before):
                return
            await self._started(instruction)
            layer = await build_steps.copy(
                build,
                self.tip,
                self.name,
                items,
                path,
                chown=chown,
                mode=int(chmod, 8) if chmod else None,
                keep_owner=bool(origin),
                excludes=excludes,
            )
            self._made(instruction, key, before, by, layer)
            await self.flush()

    async def _items(
        self,
        instruction: Instruction,
        sources: list[str],
        origin: str,
        stack: AsyncExitStack,
        files: ExitStack,
        excludes: list[str],
    ) -> list[Item]:
        """What COPY or ADD brings, open until the stacks are left."""
        build = self.build
        tree = await self.origin(origin, stack) if origin else None
        heredocs = {heredoc.name: heredoc for heredoc in instruction.heredocs}
        items: list[Item] = []
        for source in sources:
            if source.startswith("<<") and source.lstrip("<-") in heredocs:
                heredoc = heredocs[source.lstrip("<-")]
                if "/" in heredoc.name or heredoc.name in (".", ".."):
                    raise instruction.error(f"{heredoc.name}: a heredoc of COPY is a file's name")
                text = heredoc.content
                if heredoc.expand:
                    text = build_mounts.heredoc_text(self.state, instruction, text)
                directory = build.place("heredoc")
                build_mounts.write(f"{directory}/{heredoc.name}", text)
                place = files.enter_context(_tree(directory, "the heredoc"))
                items += build_steps.opened(files, place, [heredoc.name])
            elif instruction.name == "ADD" and build_context.is_git(source):
                keep = dict(instruction.flags).get("keep-git-dir", "false") in ("", "true")
                directory = build.place("repository")
                path = await build_git.fetch(build_git.parse(source), directory, keep_git=keep)
                place = files.enter_context(_tree(path, source))
                items += build_steps.opened(files, place, ["."])
            elif instruction.name == "ADD" and build_context.is_url(source):
                directory = build.place("download")
                checksum = self.state.expand(instruction, instruction.flag("checksum"))
                name = await trio.to_thread.run_sync(
                    build_context.download, source, directory, checksum
                )
                place = files.enter_context(_tree(directory, source))
                items += build_steps.opened(files, place, [name])
            else:
                where = build.context if tree is None else tree
                paths = select(where, source, excludes)
                unpack = instruction.name == "ADD"
                items += build_steps.opened(files, where, paths, unpack=unpack)
        return items

    async def origin(self, name: str, stack: AsyncExitStack) -> Tree:
        """The tree of a stage or an image (`--from`), mounted until the stack is left."""
        build = self.build
        stages = [one.stage for one in build.plan.stages]
        before = [one for one in stages if one.index < self.planned.stage.index]
        found = next((one.index for one in before if one.name and one.name == name.lower()), None)
        if found is None and name.isdecimal():
            found = int(name)
        tip = await (build.image(name) if found is None else build.stage_image(found))
        path = await stack.enter_async_context(image_mounts.tree(build.engine, tip.id, tip.chain))
        return stack.enter_context(_tree(path, f"the image {name}", image=True))


def _at(instruction: Instruction, raised: Exception) -> BaseException:
    """The error, with file and line unless it names them."""
    error = build_steps.first(raised)
    if not isinstance(error, TiffinError):
        return raised
    where = f"{instruction.file}:{instruction.line}: "
    if error.what.startswith(where):
        return error
    return type(error)(f"{where}{instruction.name}: {error.what}", hint=error.hint)


@contextmanager
def _tree(path: str, what: str, *, image: bool = False) -> Iterator[Tree]:
    tree = Tree(path, what, image=image)
    try:
        yield tree
    finally:
        tree.close()
