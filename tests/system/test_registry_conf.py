"""registries.conf and policy.json with a registry that is really asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cli import BUSYBOX, Tiffin


@pytest.fixture
def configured(tiffin: Tiffin, tmp_path: Path, registry_address: str) -> Tiffin:
    """With one image in the registry, and configuration files of its own."""
    tiffin.env = {
        "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "registries.conf"),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    (tmp_path / "containers").mkdir()
    (tmp_path / "registries.conf").write_text("")
    tiffin("pull", BUSYBOX)
    tiffin("push", BUSYBOX, f"{registry_address}/pantry/soup:1")
    return tiffin


def test_short_names_mirrors_and_blocked_registries(
    configured: Tiffin, tmp_path: Path, registry_address: str
) -> None:
    conf = tmp_path / "registries.conf"
    conf.write_text(
        f"""
        unqualified-search-registries = ["127.0.0.1:1", "{registry_address}"]
        [aliases]
        "broth" = "{registry_address}/pantry/soup"
        [[registry]]
        prefix = "kitchen.example/pots"
        location = "kitchen.invalid/pots"
        [[registry.mirror]]
        location = "127.0.0.1:1/nothing"
        [[registry.mirror]]
        location = "{registry_address}/pantry"
        [[registry]]
        location = "blocked.example"
        blocked = true
        """
    )
    image_id = configured("pull", "-q", "kitchen.example/pots/soup:1").word
    assert configured("image", "exists", "kitchen.example/pots/soup:1").code == 0
    assert configured("pull", "-q", "pantry/soup:1").word == image_id
    assert configured("pull", "-q", "broth:1").word == image_id
    assert configured("image", "inspect", "-f", "{{.Id}}", "broth:1").word == image_id
    run = ("run", "--rm", "--network=none", "--pull=never")
    assert configured(*run, "broth:1", "echo", "hi").out == "hi\n"
    configured.fails("pull", "blocked.example/x", says="is blocked")
    configured.fails("push", "broth:1", "blocked.example/x", says="is blocked")
    conf.write_text("[[registry]]\n")
    configured.fails("pull", "broth:1", says=str(conf))


def test_the_policy_is_asked_first(
    configured: Tiffin, tmp_path: Path, registry_address: str
) -> None:
    configured("save", "-o", tmp_path / "a.tar", BUSYBOX)
    accept = [{"type": "insecureAcceptAnything"}]
    policy = {
        "default": [{"type": "reject"}],
        "transports": {"docker": {f"{registry_address}/pantry": accept}},
    }
    (tmp_path / "containers/policy.json").write_text(json.dumps(policy))
    configured("pull", "-q", f"{registry_address}/pantry/soup:1")
    configured.fails("pull", "no.invalid/x", says="refused by the policy")
    configured.fails("run", "--rm", "--pull=always", "no.invalid/x", says="refused by the policy")
    configured.fails("load", "-i", tmp_path / "a.tar", says="refused by the policy")
