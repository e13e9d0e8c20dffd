"""registries.conf, policy.json and credential helpers, without a registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiffin.errors import UserError
from tiffin.images import reference
from tiffin.registry import auth, helpers, logins, policy, registries
from tiffin.registry.registries import Endpoint

CONF = """
unqualified-search-registries = ["one.example", "two.example:5000"]
[aliases]
"soup" = "kitchen.example/pots/soup"
[[registry]]
location = "blocked.example"
blocked = true
[[registry]]
prefix = "plain.example/team"
location = "other.example/moved"
insecure = true
[[registry.mirror]]
location = "mirror.example/team"
[[registry.mirror]]
location = "tags.example/team"
pull-from-mirror = "tag-only"
insecure = true
[[registry]]
prefix = "*.wild.example"
blocked = true
"""


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "registries.conf"
    path.write_text(CONF)
    monkeypatch.setenv(registries.VARIABLE, str(path))
    return path


def test_what_short_names_mean(conf: Path) -> None:
    config = registries.load()

    def meant(given: str) -> list[str]:
        return [str(found) for found in registries.resolve(given, config)]

    assert meant("soup:2") == ["kitchen.example/pots/soup:2"]
    assert meant("dal") == ["one.example/dal:latest", "two.example:5000/dal:latest"]
    assert meant("quay.io/a/b") == ["quay.io/a/b:latest"]
    assert list(registries.names("soup")) == ["kitchen.example/pots/soup:latest"]
    conf.write_text("")
    assert [str(r) for r in registries.resolve("dal", registries.load())] == [
        "docker.io/library/dal:latest"
    ]


def test_where_images_are(conf: Path) -> None:
    config = registries.load()

    def places(given: str, push: bool = False) -> list[Endpoint]:
        return registries.endpoints(reference.parse(given), config, push=push)

    moved = Endpoint("other.example", "moved/app", True)
    mirror = Endpoint("mirror.example", "team/app")
    assert places("plain.example/team/app:1") == [
        mirror,
        Endpoint("tags.example", "team/app", True),
        moved,
    ]
    assert places(f"plain.example/team/app@sha256:{'a' * 64}") == [mirror, moved]
    assert places("plain.example/team/app", push=True) == [moved]
    assert places("plain.example/teams/app") == [Endpoint("plain.example", "teams/app")]
    for blocked in ("blocked.example/x", "deep.in.wild.example/x"):
        with pytest.raises(UserError, match="is blocked"):
            places(blocked)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unqualified-search-registries = 'x", "cannot read"),
        ("unqualified-search-registries = ['a b']", "'a b' is not a registry"),
        ("[[registry]]\ninsecure = true", "neither prefix nor location"),
        ("[[registry]]\nlocation='a'\n[[registry.mirror]]\ninsecure=true", "has no location"),
        ("registry = 3", "not as it should be"),
        ("[registries.search]\nregistries = []", "version 1"),
    ],
)
def test_a_registries_conf_that_is_wrong(conf: Path, text: str, says: str) -> None:
    conf.write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        registries.load()
    assert str(conf) in str(caught.value)


def test_files_beside_it_add_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(registries.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "containers/registries.conf.d"
    folder.mkdir(parents=True)
    (tmp_path / "containers/registries.conf").write_text(CONF)
    (folder / "10.conf").write_text('[[registry]]\nlocation = "blocked.example"\n')
    (folder / "20.conf").write_text('[aliases]\n"soup" = "other.example/soup"\n')
    config = registries.load()
    assert config.aliases["soup"] == "other.example/soup"
    assert registries.endpoints(reference.parse("blocked.example/x"), config)


POLICY = {
    "default": [{"type": "reject"}],
    "transports": {
        "docker": {
            "good.example": [{"type": "insecureAcceptAnything"}],
            "good.example/bad": [{"type": "reject"}],
            "good.example/bad/one:2": [{"type": "insecureAcceptAnything"}],
            "*.wild.example": [{"type": "insecureAcceptAnything"}],
            "signed.example": [{"type": "signedBy", "keyType": "GPGKeys"}],
        },
        "oci-archive": {"/srv": [{"type": "insecureAcceptAnything"}]},
    },
}


@pytest.fixture
def policy_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "containers/policy.json"
    path.parent.mkdir()
    path.write_text(json.dumps(POLICY))
    return path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("good.example/app", ""),
        ("good.example/bad/two", "refused by the policy"),
        ("good.example/bad/one:2", ""),
        ("good.example/bad/one:3", "refused by the policy"),
        ("a.wild.example/x", ""),
        ("else.example/x", "refused by the policy"),
        ("signed.example/x", "'signedBy', which cannot be checked"),
    ],
)
def test_what_the_policy_lets_in(policy_file: Path, name: str, says: str) -> None:
    if not says:
        policy.check(reference.parse(name))
        return
    with pytest.raises(UserError, match=says):
        policy.check(reference.parse(name))


def test_archives_have_scopes_as_well(policy_file: Path) -> None:
    policy.check_file("oci-archive", "/srv/images/app.tar")
    with pytest.raises(UserError, match="refused"):
        policy.check_file("oci-archive", "/tmp/app.tar")
    with pytest.raises(UserError, match="refused"):
        policy.check_file("docker-archive", "/srv/images/app.tar")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"default": 3}', "{" * 100_000])
def test_a_policy_that_is_none_lets_nothing_in(policy_file: Path, text: str) -> None:
    policy_file.write_text(text)
    with pytest.raises(UserError, match=r"policy\.json"):
        policy.check(reference.parse("good.example/app"))


HELPER = """#!/bin/sh
read -r line || true
case $1 in
get) if [ "$line" = host.example ] && [ -e kept ]; then cat kept; else echo none; exit 1; fi ;;
store) echo "$line" > kept ;;
erase) rm kept ;;
esac
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "docker-credential-lunch"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {}, "credHelpers": {"host.example": "lunch"}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    return file


def test_a_credential_helper_keeps_the_login(helper: Path) -> None:
    assert auth.stored("host.example", "app") is None
    logins.store(str(helper), "host.example", auth.Credentials("me", "secret"))
    assert (
        "secret" not in helper.read_text() and "auth" not in json.loads(helper.read_text())["auths"]
    )
    found = auth.stored("host.example", "app")
    assert found is not None and (found.username, found.password) == ("me", "secret")
    assert logins.username(str(helper), "host.example") == "me"
    assert auth.stored("else.example", "app") is None
    assert logins.forget(str(helper), "host.example")
    assert auth.stored("host.example", "app") is None
    assert not logins.forget(str(helper), "host.example")


def test_a_store_for_all_of_them_and_tokens(helper: Path) -> None:
    helper.write_text(json.dumps({"credsStore": "lunch"}))
    (helper.parent / "kept").write_text(json.dumps({"Username": "<token>", "Secret": "t"}))
    found = auth.stored("host.example", "app")
    assert found is not None and found.token == "t"
    (helper.parent / "kept").write_text("no json")
    with pytest.raises(UserError, match="gave no credentials"):
        auth.stored("host.example", "app")


@pytest.mark.parametrize(
    ("name", "says"),
    [("absent", "docker-credential-absent is not installed"), ("../x", "not the name")],
)
def test_a_helper_that_is_not_there(helper: Path, name: str, says: str) -> None:
    helper.write_text(json.dumps({"credHelpers": {"host.example": name}}))
    with pytest.raises(UserError, match=says):
        auth.stored("host.example", "app")
    assert helpers.get({}, "host.example") is None
