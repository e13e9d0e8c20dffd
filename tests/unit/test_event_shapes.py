"""`events --format`: for people, in podman's shape, in docker's, and by templates over each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import stories

from tiffin.cli import event_shapes, main
from tiffin.errors import UserError
from tiffin.events import registered
from tiffin.layout import Layout


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stories.tell(tmp_path)
    monkeypatch.setenv("TIFFIN_ROOT", made.root)
    monkeypatch.setenv("TIFFIN_RUNROOT", made.run)


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main.dispatch(["events", *words]) == 0
    return capsys.readouterr().out.splitlines()


def objects(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys, *words)]


def test_people_see_names(capsys: pytest.CaptureFixture[str]) -> None:
    shown = lines(capsys, "--after", "4")
    assert all(" container old (ac0d0d0d0d0d)" in line for line in shown[:9])
    assert all(" container job (ab0e0e0e0e0e)" in line for line in shown[9:])
    assert "image localhost/bb:latest (111111111111)" in lines(capsys)[2]
    assert " transfer bb (t1)" in lines(capsys)[3]


def test_podmans_shape(capsys: pytest.CaptureFixture[str]) -> None:
    found = objects(capsys, "--format", "podman", "--filter", "container=job")
    assert [event["Status"] for event in found] == ["create", "init", "start", "died"]
    last = found[-1]
    assert last["ID"] == stories.JOB and last["Name"] == "job" and last["Type"] == "container"
    assert last["Image"] == "localhost/bb:latest" and last["ContainerExitCode"] == 3
    assert last["Attributes"] == {"meal": "lunch"}
    pulled = objects(capsys, "--format", "podman", "--filter", "type=transfer")
    assert [(event["Status"], event["Name"], event["ID"]) for event in pulled] == [
        ("pull", "bb", stories.IMAGE)
    ]
    out = lines(capsys, "--format", "podman {{.Type}} {{.Status}} {{.Name}}", "--after", "18")
    assert out == ["container start job", "container died job"]


def test_dockers_shape(capsys: pytest.CaptureFixture[str]) -> None:
    found = objects(capsys, "--format", "docker", "--filter", "container=old")
    assert [event["Action"] for event in found] == ["create", "start", "die", "destroy"]
    died = found[2]
    assert died["Actor"]["ID"] == died["id"] == stories.OLD and died["status"] == "die"
    assert died["Actor"]["Attributes"] == {
        "meal": "lunch", "image": "localhost/bb:latest", "name": "old", "exitCode": "0",
    }  # fmt: skip
    assert died["timeNano"] // stories.SECOND == died["time"] == 1_790_000_025
    out = lines(capsys, "--format", "docker {{.Type}} {{.Action}} {{.Actor.Attributes.name}}")
    assert out[-1] == "container die job"


def came(layout: Layout, stream: str, source: str) -> None:
    planned = {"source": source, "reference": source, "storage_driver": "vfs"}
    stories.add(
        layout,
        (stream, "transfer.planned", planned),
        (stream, "transfer.finished", {"image_ids": [f"sha256:{stories.IMAGE}"]}),
        at=400,
    )


def test_an_image_that_was_not_pulled_is_not_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    for source in ("load a.tar", "import b.tar", "commit web", "pull c"):
        came(layout, f"transfer/{source[:2]}", source)

    def said(engine: str, *more: str) -> list[str]:
        key = "Status" if engine == "podman" else "Action"
        found = objects(capsys, "--format", engine, "--filter", "type=transfer", *more)
        return [event[key] for event in found]

    assert said("podman") == ["pull", "loadfromarchive", "import", "pull"]
    assert said("docker") == ["pull", "load", "import", "pull"]
    out = lines(capsys, "--format", "podman {{.Name}}", "--filter", "event=loadfromarchive")
    assert out == ["a.tar"]
    assert lines(capsys, "--filter", "event=") == []
    assert said("podman", "--filter", "event=pull") == ["pull", "pull"]
    assert said("docker", "--filter", "event=load") == ["load"]


def test_an_images_mount_is_the_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    planned = {"image_id": f"sha256:{stories.IMAGE}", "driver": "vfs", "layers": [], "path": "/m"}
    stories.add(layout, ("mount/m1", "mount.planned", planned), ("mount/m1", "mount.made", {}),
                ("mount/m1", "mount.removed", {}), at=400)  # fmt: skip
    out = lines(capsys, "--format", "podman {{.Type}} {{.Status}} {{.Name}} {{.ID}}", "--after=20")
    assert out == [f"image {s} localhost/bb:latest {stories.IMAGE}" for s in ("mount", "unmount")]
    assert lines(capsys, "--format", "docker", "--after=20") == []


def test_volumes_and_plugins_have_their_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = Layout(str(tmp_path / "root"), str(tmp_path / "run"))
    stories.add(layout, ("volume/v", "volume.created", {"path": "/v"}),
                ("plugin/storage.vfs", "plugin.disabled", {}), at=400)  # fmt: skip
    assert lines(capsys, "--format", "podman {{.Type}} {{.Name}}", "--after=20") == ["volume v"]
    shown = [line.split(" ", 3)[3] for line in lines(capsys, "--after=20")]
    assert shown == ["volume v (path=/v)", "plugin storage.vfs"]


def test_own_templates_know_what_podmans_scripts_name(capsys: pytest.CaptureFixture[str]) -> None:
    out = lines(capsys, "--format", "{{.Type}} {{.Status}} {{.Name}} {{.Image}}", "--after", "19")
    assert out == ["container.exited died job localhost/bb:latest"]


def test_filters_by_the_other_engines_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(lines(capsys, "--filter", "event=died")) == 2
    assert len(lines(capsys, "--filter", "event=die")) == 2
    assert len(lines(capsys, "--filter", "event=start")) == 2


def test_a_wrong_template_is_named_even_without_events() -> None:
    with pytest.raises(UserError, match="Statsu"):
        main.dispatch(["events", "--format", "podman {{.Statsu}}"])
    with pytest.raises(UserError, match="template"):
        main.dispatch(["events", "--format", "podman {{.Status", "--after", "20"])


def test_shapes_are_of_events_that_exist_or_will() -> None:
    """Nouns that the engine has get no action that it never records."""
    coming = {"volume.created", "volume.removed"}
    coming |= {"container.paused", "container.unpaused", "container.renamed"}
    assert set(event_shapes.PODMAN) - coming <= set(registered())
