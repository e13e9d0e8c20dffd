"""Pulls by the library, from registries that the tests serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiffin import transfer
from tiffin.content import ContentStore
from tiffin.errors import TiffinError
from tiffin.images.reference import parse

from . import images, registry


async def pull(address: str, store: ContentStore, **options: Any) -> transfer.Fetched:
    return await transfer.pull(parse(f"{address}/lunch"), store, **options)


async def failure(
    layout: images.Layout, store: ContentStore, fault: registry.Fault, **options: Any
) -> TiffinError:
    """The error of a pull from a registry with this fault; one line, and nothing half done."""
    with registry.serving(layout, fault) as server:
        with pytest.raises(TiffinError) as caught:
            await pull(server.address, store, **options)
    assert len(str(caught.value).splitlines()) == 1
    partial = Path(store.root) / "partial"
    assert not partial.exists() or not list(partial.iterdir())
    return caught.value
