"""Which storage driver a container with ids of its own gets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tiffin.engine.drivers import mapping_storage
from tiffin.errors import DriverError


class Driver:
    def __init__(self, preference: int, why: str | None = None, broken: str | None = None) -> None:
        self.preference = preference
        self.why = why
        self.broken = broken

    def cannot_map(self) -> str | None:
        return self.why

    async def probe(self) -> str | None:
        return self.broken


class Plain:
    """A driver of somebody's that has never heard of it."""

    preference = 10

    async def probe(self) -> str | None:
        return None


def engine(setting: str = "", **drivers: object) -> Any:
    return SimpleNamespace(
        layout=SimpleNamespace(uid=0),
        settings=SimpleNamespace(storage_driver=setting),
        plugins=SimpleNamespace(names=lambda kind: list(drivers)),
        storage=drivers.__getitem__,
    )


async def test_the_best_that_can() -> None:
    machine = engine(overlay=Driver(100, "old"), broken=Driver(50, broken="no"), plain=Plain())
    assert await mapping_storage(machine, "overlay", "") == "plain"
    assert await mapping_storage(engine(overlay=Driver(100), plain=Plain()), "overlay", "") == (
        "overlay"
    )


@pytest.mark.parametrize(("asked", "setting"), [("overlay", ""), ("", "overlay")])
async def test_what_was_asked_for_is_not_replaced(asked: str, setting: str) -> None:
    machine = engine(setting, overlay=Driver(100, "it is too old"), plain=Plain())
    with pytest.raises(DriverError, match="overlay cannot do that here: it is too old"):
        await mapping_storage(machine, "overlay", asked)


async def test_none_that_can() -> None:
    with pytest.raises(DriverError, match="too old"):
        await mapping_storage(engine(overlay=Driver(100, "too old")), "overlay", "")
