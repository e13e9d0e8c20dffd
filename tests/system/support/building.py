"""A directory that is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import invariants
from .cli import Done, Tiffin

FROM = "FROM embedded:busybox\n"


class Context:
    """A directory with a Dockerfile, and the store that builds it."""

    def __init__(self, tiffin: Tiffin, directory: Path) -> None:
        self.tiffin = tiffin
        self.directory = directory

    def write(self, name: str, text: str | bytes = "", mode: int = 0o644) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def dockerfile(self, text: str) -> None:
        self.write("Dockerfile", text)

    def build(self, text: str | None = None, *flags: str, **options: Any) -> Done:
        """Without a network: nothing here needs one, and it is quicker."""
        if text is not None:
            self.dockerfile(text)
        return self.tiffin("build", "--network=none", *flags, str(self.directory), **options)

    def fails(self, text: str, *flags: str, **options: Any) -> str:
        self.dockerfile(text)
        return self.tiffin.fails(
            "build", "-q", "--network=none", *flags, str(self.directory), **options
        )

    def run(self, image: str, *command: str, **options: Any) -> Done:
        return self.tiffin("run", "--rm", "--network=none", image, *command, **options)

    def sh(self, image: str, script: str) -> str:
        return self.run(image, "sh", "-c", script).out

    def config(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = self.tiffin.inspect(image)["Config"]
        return found

    def image(self, text: str | None, *flags: str, **options: Any) -> str:
        """Build quietly; returns the image's id."""
        return self.build(text, "-q", *flags, **options).word

    def left(self) -> list[str]:
        """What a build may not leave behind."""
        return invariants.broken(self.tiffin.base) + self.tiffin("ps", "-aq").lines
