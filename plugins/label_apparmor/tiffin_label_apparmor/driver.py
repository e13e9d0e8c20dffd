"""The label provider `apparmor`."""

from __future__ import annotations

import hashlib
import os
import shutil

from tiffin.errors import DriverError, UserError
from tiffin.hooks import DriverContext, LabelRequest, Labels, run_program

from . import profile

STATE = "/sys/module/apparmor/parameters/enabled"
LOADED = "/sys/kernel/security/apparmor/profiles"
PARSER_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
PACKAGE = "apparmor"


class AppArmor:
    name = "apparmor"
    option = "apparmor"

    def __init__(self, context: DriverContext) -> None:
        self.run = context.run
        self.rootless = context.rootless
        self._enabled: bool | None = None

    def enabled(self) -> bool:
        if self._enabled is None:
            self._enabled = _read(STATE).startswith("Y")
        return self._enabled

    async def allocate(self, request: LabelRequest) -> Labels:
        """Without the parser there is no default profile: containers are as free as the engine."""
        given = request.options[-1] if request.options else ""
        if given == "unconfined" or (request.privileged and not given):
            return Labels()
        if not given and (self.rootless or not self._available()):
            return Labels()
        labels = Labels(profile=given or profile.NAME)
        await self.prepare(labels)
        return labels

    def _available(self) -> bool:
        return profile.NAME in _loaded() or _parser() is not None

    async def prepare(self, labels: Labels) -> None:
        if labels.profile == profile.NAME:
            await self._load_ours()
        elif labels.profile and labels.profile not in _loaded():
            raise UserError(
                f"AppArmor profile {labels.profile!r} is not loaded",
                hint="load it with apparmor_parser --replace FILE",
            )

    async def _load_ours(self) -> None:
        """Unless this very text is loaded; the note of that is gone after a reboot, as it must."""
        digest = hashlib.sha256(profile.TEXT.encode()).hexdigest()
        note = f"{self.run}/profile"
        if profile.NAME in _loaded() and _read(note) == digest:
            return
        program = _parser()
        if program is None:
            if profile.NAME in _loaded():
                return
            raise DriverError(
                f"AppArmor profile {profile.NAME!r} cannot be loaded: apparmor_parser is missing",
                hint=f"install the package {PACKAGE}",
            )
        # No cache: that is the distribution's. --replace loads what is not there as well.
        argv = (program, "--replace", "--skip-cache", "--quiet")
        code, _, err = await run_program(
            argv, package=PACKAGE, stdin=profile.TEXT.encode(), check=False
        )
        if code != 0:
            reason = err.decode(errors="replace").strip().replace("\n", " ")
            raise DriverError(f"AppArmor profile {profile.NAME!r} cannot be loaded: {reason}")
        os.makedirs(self.run, mode=0o700, exist_ok=True)
        with open(f"{note}.{os.getpid()}", "w", encoding="ascii") as file:
            file.write(digest)
        os.replace(f"{note}.{os.getpid()}", note)

    async def share(self, directory: str) -> None:
        """As `relabel`."""

    async def relabel(self, path: str, label: str, *, shared: bool) -> None:
        """Profiles speak of paths: files have no labels."""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _loaded() -> dict[str, str]:
    return profile.parse_loaded(_read(LOADED))


def _parser() -> str | None:
    return shutil.which("apparmor_parser", path=PARSER_PATH)
