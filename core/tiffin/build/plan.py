"""Which stages of a Dockerfile are built, and which wait for which. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from ..dockerfile import expansion
from ..dockerfile.instructions import Instruction, make
from ..dockerfile.lines import Line
from ..dockerfile.parser import Dockerfile, Stage
from ..errors import UserError
from ..images.platform import Platform

SCRATCH = "scratch"
PREDEFINED = tuple(
    name
    for plain in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (plain, plain.lower())
)
"""Build arguments that need no ARG, and are neither in the history nor in the cache's keys."""


class StagePlan(Struct, frozen=True):
    stage: Stage
    position: int
    """Among those that are built, from 1."""
    base: str
    """Image or name of a stage, expanded."""
    base_stage: int | None
    """Index of the stage that it begins with."""
    platform: str
    waits: frozenset[int]
    """Indexes of the stages that it uses: as base, or by --from."""


class BuildPlan(Struct, frozen=True):
    stages: tuple[StagePlan, ...]
    """Those that are needed, in the order of the file; the last is the target."""
    arguments: Mapping[str, str]
    """Global ARGs with their values: what a stage's `ARG NAME` takes up."""
    given: Mapping[str, str]
    """--build-arg."""
    unused: tuple[str, ...]
    """Build arguments that no ARG takes."""


def platform_arguments(target: Platform, host: Platform) -> dict[str, str]:
    """TARGETPLATFORM and its like, for who declares them."""
    found = {}
    for prefix, one in (("TARGET", target), ("BUILD", host)):
        found[f"{prefix}PLATFORM"] = str(one)
        found[f"{prefix}OS"] = one.os
        found[f"{prefix}ARCH"] = one.architecture
        found[f"{prefix}VARIANT"] = one.variant
    return found


def expand(instruction: Instruction, text: str, variables: Mapping[str, str]) -> str:
    """Error: UserError that names file and line."""
    try:
        return expansion.word(text, variables, instruction.escape)
    except ValueError as error:
        raise instruction.error(str(error)) from None


def plan(
    dockerfile: Dockerfile,
    *,
    build_args: Mapping[str, str],
    platforms: Mapping[str, str],
    target: str = "",
    wanted_platform: str = "",
) -> BuildPlan:
    """Error: UserError for an unknown target or stage, or a FROM that is empty once expanded."""
    arguments = dict(platforms)
    consumed = set(PREDEFINED) | set(platforms)
    for instruction in dockerfile.arguments:
        for part in instruction.parts:
            name, equals, default = part.partition("=")
            consumed.add(name)
            if name in build_args:
                arguments[name] = build_args[name]
            elif equals:
                arguments[name] = expand(instruction, default, arguments)
    planned = [_stage(stage, dockerfile, arguments, wanted_platform) for stage in dockerfile.stages]
    wanted = _target(dockerfile, target)
    needed = {wanted}
    for index in range(wanted, -1, -1):
        if index in needed:
            needed |= planned[index].waits
    kept = [planned[index] for index in sorted(needed)]
    for one in dockerfile.stages:
        for instruction in one.instructions:
            if instruction.name == "ARG":
                consumed |= {part.partition("=")[0] for part in instruction.parts}
    return BuildPlan(
        stages=tuple(
            msgspec.structs.replace(one, position=number) for number, one in enumerate(kept, 1)
        ),
        arguments=arguments,
        given=dict(build_args),
        unused=tuple(sorted(set(build_args) - consumed)),
    )


def _target(dockerfile: Dockerfile, target: str) -> int:
    if not target:
        return len(dockerfile.stages) - 1
    found = find_stage(dockerfile.stages, target)
    if found is None:
        names = [stage.name for stage in dockerfile.stages if stage.name]
        raise UserError(
            f"--target {target}: {dockerfile.file} has no such stage",
            hint=f"it has {', '.join(names) or 'no named stages'}",
        )
    return found


def find_stage(stages: Sequence[Stage], name: str, before: int | None = None) -> int | None:
    """Index of a stage by name or number, `before` another."""
    usable = stages if before is None else stages[:before]
    for stage in usable:
        if stage.name and stage.name == name.lower():
            return stage.index
    if name.isascii() and name.isdecimal() and int(name) < len(usable):
        return int(name)
    return None


def _stage(
    stage: Stage, dockerfile: Dockerfile, arguments: Mapping[str, str], wanted_platform: str
) -> StagePlan:
    base = expand(stage.base, stage.image, arguments)
    if not base:
        raise stage.base.error(
            f"{stage.image} is empty", "give the ARG before FROM a default, or --build-arg"
        )
    named = next((one.index for one in dockerfile.stages[: stage.index] if one.name == base), None)
    waits = set() if named is None else {named}
    for instruction in stage.instructions:
        for source in sources(instruction):
            found = find_stage(dockerfile.stages, source, stage.index)
            if found is not None:
                waits.add(found)
            elif source.isdecimal() or source.lower() == stage.name:
                raise instruction.error(f"from={source}: there is no such stage before this one")
    platform = expand(stage.base, stage.base.flag("platform"), arguments) or wanted_platform
    return StagePlan(stage, 0, base, named, platform, frozenset(waits))


def sources(instruction: Instruction) -> list[str]:
    """What an instruction names by `from=`, as written: stages or images."""
    if instruction.name == "COPY":
        return [instruction.flag("from")] if instruction.flag("from") else []
    if instruction.name == "RUN":
        options = [
            option.partition("=")[2]
            for key, value in instruction.flags
            if key == "mount"
            for option in value.split(",")
            if option.startswith("from=")
        ]
        return [option for option in options if option]
    return []


def added(name: str, pairs: Sequence[tuple[str, str]], file: str, line: int) -> Instruction:
    """An instruction that the command line asks for: `--label`, `--env`."""
    words = " ".join(f"{_quoted(key)}={_quoted(value)}" for key, value in pairs)
    return make(Line(line, name, words), file, "\\")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'
