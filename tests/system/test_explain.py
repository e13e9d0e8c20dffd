"""`tiffin explain`: where every field of config.json came from, and the container's story."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.cli import BUSYBOX, Tiffin


@pytest.fixture(scope="module")
def explained(shared: Tiffin) -> Tiffin:
    shared.detached(
        "--name=box", "-e", "LUNCH=dal", "-v", f"{Path(__file__).parent}:/code:ro", BUSYBOX,
        "sleep", "1000",
    )  # fmt: skip
    return shared


def test_for_people_it_draws_the_container(explained: Tiffin) -> None:
    out = explained("explain", "box").out
    for word in ("created", "started", "conmon", "sleep", "/code", "overlay"):
        assert word in out, word
    for origin in ("image", "user", "engine"):
        assert origin in out, origin
    assert max(map(len, out.splitlines())) < 200


def origins(document: Any) -> list[str]:
    """Every value of a key that tells an origin, wherever it is."""
    if isinstance(document, dict):
        return [o for item in document.values() for o in origins(item)]
    if isinstance(document, list):
        return [o for item in document for o in origins(item)]
    return [document] if isinstance(document, str) else []


def test_for_robots_it_is_json(explained: Tiffin) -> None:
    document = json.loads(explained("explain", "--format", "json", "box").out)
    words = set(origins(document))
    assert {"image", "user", "engine"} <= {word.split()[0].split(":")[0] for word in words if word}
    text = json.dumps(document)
    for word in ("container.started", "/code", "LUNCH"):
        assert word in text, word


def test_every_top_level_field_of_the_spec_has_an_origin(explained: Tiffin) -> None:
    cid = explained.inspect("box")["Id"]
    (config,) = explained.root.glob(f"**/{cid}/**/config.json")
    (stored,) = explained.root.glob(f"**/{cid}/**/origins.json")
    known = json.dumps(json.loads(stored.read_text()))
    spec = json.loads(config.read_text())
    for key in spec:
        assert key in known, key
    for key in (*spec["process"], *spec["linux"]):
        assert key in known, key


def test_a_container_that_never_ran_can_be_explained(explained: Tiffin) -> None:
    explained.create("--name=shy", BUSYBOX)
    assert "created" in explained("explain", "shy").out
    explained.fails("explain", "no-such", says="no-such")
