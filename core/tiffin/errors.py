"""Every error that tiffin raises on purpose: a small tree, by cause.

An error says what went wrong, and may carry a hint that says what to do. Front ends map the class
to an exit code or an HTTP status; nothing else in the engine knows about either.
"""

from __future__ import annotations


class TiffinError(Exception):
    """Base of all expected failures. `str(error)` is one line for a person."""

    exit_code = 125

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class UserError(TiffinError):
    """The request makes no sense as it stands: a bad flag, name, path or combination."""


class NotFound(TiffinError):
    """A container, image, network, blob or file that was named does not exist."""


class Conflict(TiffinError):
    """The request is sound but the present state forbids it: a name in use, a running container."""


class ImageError(TiffinError):
    """An image, manifest, layer or archive is broken, hostile, or not for this machine."""


class RegistryError(TiffinError):
    """A registry could not be reached, or gave an answer that is no good."""


class DriverError(TiffinError):
    """A driver (storage, network, label) could not do its work, or its program is missing."""


class RuntimeFailed(TiffinError):
    """The OCI runtime or conmon failed. `exit_code` is 126 or 127 where the command is to blame."""

    def __init__(self, what: str, *, hint: str = "", exit_code: int = 125) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = exit_code

    def naming(self, command: str) -> RuntimeFailed:
        """The same with the command named, when it is at fault and the runtime does not say it."""
        if self.exit_code not in (126, 127) or command in self.what:
            return self
        return RuntimeFailed(f"{command}: {self.what}", hint=self.hint, exit_code=self.exit_code)


class StepFailed(TiffinError):
    """A step of a build failed. `exit_code` is that of the command of a RUN."""

    def __init__(self, what: str, *, hint: str = "", exit_code: int = 125) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = exit_code


class Corrupt(TiffinError):
    """What is stored contradicts itself: a damaged database, blob or layer."""


class StorageFull(TiffinError):
    """A file system has no room left (ENOSPC, EDQUOT). What was half written has been removed."""
