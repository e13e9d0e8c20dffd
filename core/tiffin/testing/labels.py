"""The conformance suite for label providers: what the engine relies on, whatever the labels mean.

    class TestMine(LabelConformance):
        @pytest.fixture
        def provider(self, tmp_path):
            return ...  # your provider, with directories below tmp_path in its `DriverContext`

For a machine where your provider's module is in force; elsewhere have the fixture skip. Needs root.
Tests are async: pytest-trio in trio mode.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tiffin import ids
from tiffin.errors import UserError
from tiffin.hooks import LabelProvider, LabelRequest, Labels


def request(*options: str, **more: object) -> LabelRequest:
    plain = {"container": ids.new_id(), "options": options, **more}
    return msgspec.convert(plain, LabelRequest)


def labels_below(place: Path) -> dict[str, bytes]:
    """{path: its security.* attributes} of everything there, links themselves included."""
    found = {}
    for path in (place, *place.rglob("*")):
        keys = sorted(os.listxattr(path, follow_symlinks=False))
        values = [os.getxattr(path, k, follow_symlinks=False) for k in keys if "security." in k]
        found[str(path)] = b" ".join(values)
    return found


class LabelConformance:
    """Subclass it, and give it the fixture `provider`."""

    def test_it_is_enabled_and_named(self, provider: LabelProvider) -> None:
        assert provider.enabled()
        assert provider.name and provider.name == provider.name.strip().lower()
        assert provider.option.isidentifier()

    async def test_labels_are_plain_data(self, provider: LabelProvider) -> None:
        """They are recorded in an event, and read from it by every later command."""
        labels = await provider.allocate(request())
        again = msgspec.json.decode(msgspec.json.encode(labels), type=Labels)
        assert again == labels
        for text in msgspec.to_builtins(labels).values():
            assert text.isprintable() and text == text.strip()

    async def test_containers_that_know_of_each_other_claim_different_things(
        self, provider: LabelProvider
    ) -> None:
        made: list[Labels] = []
        for _ in range(20):
            taken = tuple(each.process_label for each in made if each.process_label)
            made.append(await provider.allocate(request(taken=taken)))
        claims = [each.claim for each in made if each.claim]
        assert len(set(claims)) == len(claims)

    async def test_it_can_be_asked_again_for_the_same_container(
        self, provider: LabelProvider
    ) -> None:
        """The engine does that when another command was quicker; nothing is kept for the first."""
        asked = request()
        first = await provider.allocate(asked)
        for _ in range(50):
            second = await provider.allocate(asked)
            if not first.claim or second.claim != first.claim:
                return
        pytest.fail(f"it always claims {first.claim!r}")

    async def test_privileged_containers_are_not_confined(self, provider: LabelProvider) -> None:
        labels = await provider.allocate(request(privileged=True))
        assert labels.process_label == "" and labels.profile == "" and labels.claim == ""

    async def test_an_option_that_is_none_is_refused(self, provider: LabelProvider) -> None:
        with pytest.raises(UserError) as caught:
            await provider.allocate(request("no such:option at all"))
        assert "no such:option at all" in str(caught.value)
        assert "\n" not in str(caught.value)

    async def test_prepare_may_be_repeated(self, provider: LabelProvider) -> None:
        labels = await provider.allocate(request())
        for _ in range(2):
            await provider.prepare(labels)

    async def test_relabel_stays_in_the_tree(self, provider: LabelProvider, tmp_path: Path) -> None:
        label = (await provider.allocate(request())).mount_label
        tree, outside = tmp_path / "tree", tmp_path / "outside"
        (tree / "below").mkdir(parents=True)
        (tree / "below/file").touch()
        outside.mkdir()
        (outside / "file").touch()
        (tree / "below/link").symlink_to(outside)
        before = labels_below(outside)
        for _ in range(2):
            await provider.relabel(str(tree), label, shared=False)
        assert labels_below(outside) == before
        own = labels_below(tree)
        if label:
            assert len(set(own.values())) == 1
        await provider.relabel(str(tree), label, shared=True)
        if label:
            assert labels_below(tree) != own
        assert labels_below(outside) == before

    async def test_share_reaches_what_is_there(
        self, provider: LabelProvider, tmp_path: Path
    ) -> None:
        layers = tmp_path / "layers"
        (layers / "one/bin").mkdir(parents=True)
        (layers / "one/bin/sh").touch()
        for _ in range(2):
            await provider.share(str(layers))
        assert len(set(labels_below(layers).values())) == 1
