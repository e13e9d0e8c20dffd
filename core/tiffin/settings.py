"""tiffin.toml, environment and flags: which drivers are used when nobody says."""

from __future__ import annotations

import os
from typing import Any

from .errors import UserError
from .layout import Layout


class Settings:
    """What was chosen; an empty name means: what works here."""

    __slots__ = ("cgroup_manager", "runtime", "storage_driver", "tables")

    def __init__(
        self, storage_driver: str, runtime: str, tables: dict[str, Any], cgroup_manager: str = ""
    ) -> None:
        self.storage_driver = storage_driver
        self.runtime = runtime
        self.cgroup_manager = cgroup_manager
        self.tables = tables


def path(layout: Layout) -> str:
    """TIFFIN_CONFIG, /etc/tiffin/tiffin.toml for root, ~/.config/tiffin/tiffin.toml else."""
    given = os.environ.get("TIFFIN_CONFIG")
    if given:
        return given
    if layout.uid == 0:
        return "/etc/tiffin/tiffin.toml"
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return f"{home}/tiffin/tiffin.toml"


def load(
    layout: Layout, *, storage_driver: str = "", runtime: str = "", cgroup_manager: str = ""
) -> Settings:
    """Flag, then environment, then file. Error: UserError for a file that is not TOML."""
    file_name = path(layout)
    tables: dict[str, Any] = {}
    if os.path.exists(file_name):
        import tomllib  # 5 ms, and most machines have no such file

        try:
            with open(file_name, "rb") as file:
                tables = tomllib.load(file)
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"cannot read {file_name}: {error}") from None
    engine = tables.get("engine", {})
    return Settings(
        storage_driver
        or os.environ.get("TIFFIN_STORAGE_DRIVER", "")
        or str(engine.get("storage_driver", "")),
        runtime or os.environ.get("TIFFIN_RUNTIME", "") or str(engine.get("runtime", "")),
        tables,
        cgroup_manager
        or os.environ.get("TIFFIN_CGROUP_MANAGER", "")
        or str(engine.get("cgroup_manager", "")),
    )
