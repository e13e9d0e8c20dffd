"""A Dockerfile as stages."""

from __future__ import annotations

from msgspec import Struct

from ..errors import UserError
from . import lines
from .instructions import Instruction, make


class Stage(Struct, frozen=True):
    """From one FROM to the next."""

    index: int
    base: Instruction
    """The FROM."""
    name: str
    """Lower case; empty when it has none."""
    instructions: tuple[Instruction, ...]

    @property
    def image(self) -> str:
        """As written: variables are not expanded yet."""
        return self.base.parts[0]


class Dockerfile(Struct, frozen=True):
    file: str
    arguments: tuple[Instruction, ...]
    """ARGs before the first FROM."""
    stages: tuple[Stage, ...]


def parse(text: str, file: str = "Dockerfile") -> Dockerfile:
    """Error: UserError in one line that names file and line."""
    source = lines.read(text, file)
    arguments: list[Instruction] = []
    stages: list[tuple[Instruction, list[Instruction]]] = []
    for line in source.lines:
        found = make(line, file, source.escape)
        if found.name == "FROM":
            stages.append((found, []))
        elif stages:
            stages[-1][1].append(found)
        elif found.name == "ARG":
            arguments.append(found)
        else:
            raise lines.wrong(file, line.number, f"{found.name} before FROM", "FROM comes first")
    if not stages:
        raise UserError(f"{file} has no FROM", hint="it names the image to begin with")
    made: list[Stage] = []
    for index, (base, following) in enumerate(stages):
        name = base.parts[2].lower() if len(base.parts) == 3 else ""
        if name and any(stage.name == name for stage in made):
            raise base.error(f"there is a stage {name!r} already")
        made.append(Stage(index, base, name, tuple(following)))
    return Dockerfile(file, tuple(arguments), tuple(made))
