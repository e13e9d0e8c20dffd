"""What instructions make of an image's settings (image-spec, config.md). Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from ..dockerfile import expansion
from ..dockerfile.instructions import Instruction, exec_form, pairs
from ..errors import UserError
from ..images import changes
from ..units import parse_duration
from . import plan

SHELL = ("/bin/sh", "-c")
NOP = "/bin/sh -c #(nop) "


class State(Struct, frozen=True):
    """Of a stage, between two instructions."""

    settings: Mapping[str, Any]
    """The image's config: Env, Cmd, ..."""
    arguments: Mapping[str, str] = {}
    """ARGs that were declared so far, with their values."""
    author: str = ""
    outside: Mapping[str, str] = {}
    """Global ARGs, for `ARG NAME` to take up."""
    given: Mapping[str, str] = {}
    """--build-arg."""
    command_is_inherited: bool = True
    """CMD is the base image's: an ENTRYPOINT of ours clears it."""

    @property
    def env(self) -> dict[str, str]:
        return dict(item.partition("=")[::2] for item in self.settings.get("Env") or ())

    @property
    def variables(self) -> dict[str, str]:
        """What `$name` stands for: ENV goes before ARG."""
        return {**self.arguments, **self.env}

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.settings.get("Shell") or SHELL)

    @property
    def workdir(self) -> str:
        return str(self.settings.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        return str(self.settings.get("User") or "")

    def with_settings(self, **changed: Any) -> State:
        merged = {**self.settings, **changed}
        kept = {key: value for key, value in merged.items() if value not in (None, "", [], {})}
        return msgspec.structs.replace(self, settings=kept)

    def expand(self, instruction: Instruction, text: str) -> str:
        return plan.expand(instruction, text, self.variables)

    def words(self, instruction: Instruction, text: str) -> list[str]:
        try:
            return expansion.words(text, self.variables, instruction.escape)
        except ValueError as error:
            raise instruction.error(str(error)) from None


def begin(base: Mapping[str, Any], build: plan.BuildPlan) -> State:
    """At a stage's FROM. Triggers of the base run once: they are not handed on."""
    settings = {key: value for key, value in base.items() if key != "OnBuild"}
    return State(settings=settings, outside=build.arguments, given=build.given)


def apply(state: State, instruction: Instruction) -> State:
    """After an instruction that changes settings only. Error: UserError that names the line."""
    try:
        return RULES[instruction.name](state, instruction)
    except ValueError as error:
        raise instruction.error(str(error)) from None


def _arg(state: State, instruction: Instruction) -> State:
    arguments = dict(state.arguments)
    for part in instruction.parts:
        name, equals, default = part.partition("=")
        if name in state.given:
            arguments[name] = state.given[name]
        elif equals:
            expanded = {**arguments, **state.env}
            arguments[name] = plan.expand(instruction, default, expanded)
        elif name in state.outside:
            arguments[name] = state.outside[name]
    return msgspec.structs.replace(state, arguments=arguments)


def _env(state: State, instruction: Instruction) -> State:
    env = state.env
    for name, value in pairs(instruction):
        env[state.expand(instruction, name)] = state.expand(instruction, value)
    return state.with_settings(Env=[f"{name}={value}" for name, value in env.items()])


def _label(state: State, instruction: Instruction) -> State:
    labels = dict(state.settings.get("Labels") or {})
    for name, value in pairs(instruction):
        labels[state.expand(instruction, name)] = state.expand(instruction, value)
    return state.with_settings(Labels=labels)


def command(state: State, instruction: Instruction) -> list[str]:
    """The exec form, or the text for the shell."""
    if instruction.words is not None:
        return list(instruction.words)
    return [*state.shell, instruction.value]


def _cmd(state: State, instruction: Instruction) -> State:
    changed = state.with_settings(Cmd=command(state, instruction))
    return msgspec.structs.replace(changed, command_is_inherited=False)


def _entrypoint(state: State, instruction: Instruction) -> State:
    changed = state.with_settings(Entrypoint=command(state, instruction))
    return changed.with_settings(Cmd=None) if state.command_is_inherited else changed


def _expose(state: State, instruction: Instruction) -> State:
    settings = dict(state.settings)
    changes.expose(settings, " ".join(state.words(instruction, instruction.value)))
    return state.with_settings(ExposedPorts=settings["ExposedPorts"])


def _volume(state: State, instruction: Instruction) -> State:
    if instruction.words is not None:
        found = [state.expand(instruction, word) for word in instruction.words]
    else:
        found = state.words(instruction, instruction.value)
    if not all(found):
        raise ValueError("a path is empty")
    volumes = {**(state.settings.get("Volumes") or {}), **{path: {} for path in found}}
    return state.with_settings(Volumes=volumes)


def workdir(state: State, instruction: Instruction) -> str:
    """Where WORKDIR leads from here."""
    path = state.expand(instruction, instruction.value)
    if not path:
        raise instruction.error("the directory is empty")
    return absolute(state, path)


def absolute(state: State, path: str) -> str:
    """A path in the image; a relative one is meant from the working directory."""
    return posixpath.normpath(posixpath.join("/", state.workdir, path)).replace("//", "/")


def _workdir(state: State, instruction: Instruction) -> State:
    return state.with_settings(WorkingDir=workdir(state, instruction))


def _user(state: State, instruction: Instruction) -> State:
    user = state.expand(instruction, instruction.value)
    if not user:
        raise ValueError("the user is empty")
    return state.with_settings(User=user)


def _shell(state: State, instruction: Instruction) -> State:
    return state.with_settings(Shell=list(instruction.words or ()))


def _stop_signal(state: State, instruction: Instruction) -> State:
    name = state.expand(instruction, instruction.value)
    if not re.match(r"[A-Za-z0-9+-]+\Z", name):
        raise ValueError(f"{name!r} is not a signal")
    return state.with_settings(StopSignal=name)


def _maintainer(state: State, instruction: Instruction) -> State:
    return msgspec.structs.replace(state, author=instruction.value)


def _onbuild(state: State, instruction: Instruction) -> State:
    trigger = instruction.value
    for heredoc in instruction.heredocs:
        trigger += f"\n{heredoc.content}{heredoc.name}"
    return state.with_settings(OnBuild=[*(state.settings.get("OnBuild") or ()), trigger])


TIMES = {"interval": "Interval", "timeout": "Timeout", "start-period": "StartPeriod",
         "start-interval": "StartInterval"}  # fmt: skip


def _healthcheck(state: State, instruction: Instruction) -> State:
    kind, _, rest = instruction.value.partition(" ")
    if kind.upper() == "NONE":
        return state.with_settings(Healthcheck={"Test": ["NONE"]})
    words = exec_form(rest.strip())
    check: dict[str, Any] = {
        "Test": ["CMD", *words] if words is not None else ["CMD-SHELL", rest.strip()]
    }
    for flag, value in instruction.flags:
        if flag == "retries":
            if not value.isdecimal():
                raise ValueError(f"--retries={value} is not a number")
            check["Retries"] = int(value)
        else:
            try:
                check[TIMES[flag]] = parse_duration(value)
            except UserError as error:
                raise ValueError(f"--{flag}={value}: {error}") from None
    return state.with_settings(Healthcheck=check)


RULES: dict[str, Callable[[State, Instruction], State]] = {
    "ARG": _arg,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
"""What changes settings. RUN, COPY and ADD change files; so does WORKDIR, besides."""


def triggers(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """ONBUILD of a base image, as text."""
    return tuple(settings.get("OnBuild") or ())


def visible_arguments(state: State) -> dict[str, str]:
    """ARGs that a RUN sees and that count: the predefined ones do not."""
    env = state.env
    return {
        name: value
        for name, value in sorted(state.arguments.items())
        if name not in env and name not in plan.PREDEFINED
    }


def proxies(state: State) -> dict[str, str]:
    """Predefined build arguments that were given."""
    return {name: state.given[name] for name in plan.PREDEFINED if name in state.given}


def created_by(state: State, instruction: Instruction, what: str = "") -> str:
    """The line of an image's history, in the form that podman and docker write."""
    if instruction.name == "RUN":
        seen = visible_arguments(state)
        prefix = "".join(f"{name}={value} " for name, value in seen.items())
        if prefix:
            prefix = f"|{len(seen)} {prefix}"
        if instruction.words is not None:
            return prefix + " ".join(instruction.words)
        return prefix + " ".join((*state.shell, what or instruction.value))
    return f"{NOP}{instruction.name} {what or instruction.rest}".rstrip()
