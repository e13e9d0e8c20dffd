"""The engine and its label providers, with a provider of a third party, on any machine.

The provider is installed as packages are: a folder on PYTHONPATH with metadata. It bears the name
of something that this kernel has, and so is asked.
"""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from support.cli import BUSYBOX, Tiffin

from tiffin.cli import scaffold
from tiffin.hooks import DriverContext, LabelProvider
from tiffin.testing.labels import LabelConformance
from tiffin_label_selinux import contexts, driver, files

PAGE = Path(__file__).parents[2] / "docs/writing-a-label-provider.md"
LSM = Path("/sys/kernel/security/lsm")

PROVIDER = """
    import json
    from tiffin.hooks import Labels, hookimpl

    class Provider:
        name = {name!r}
        option = "label"

        def enabled(self):
            return True

        async def allocate(self, request):
            told("allocate", request.container, list(request.options), request.privileged,
                 list(request.relabel))
            if "bad" in request.options:
                from tiffin.hooks import errors
                raise errors.UserError("--security-opt label=bad is bad")
            first = calls("allocate", request.container) == 1
            white = "white" if "white" in request.options else ""
            return Labels(claim="same" if first else request.container, mount_label=white)

        async def prepare(self, labels):
            told("prepare", labels.claim)

        async def share(self, directory):
            told("share", directory)

        async def relabel(self, path, label, *, shared):
            told("relabel", path)

    def told(*what):
        with open({log!r}, "a") as file:
            print(json.dumps(what), file=file)

    def calls(*what):
        with open({log!r}) as file:
            return sum(json.loads(line)[:2] == list(what) for line in file)

    @hookimpl
    def label_provider(name, context):
        return Provider() if name == {name!r} else None
"""


def install(place: Path, name: str, log: Path) -> None:
    """A package with a label provider of this name."""
    place.mkdir()
    (place / "somebodys_labels.py").write_text(
        textwrap.dedent(PROVIDER).format(name=name, log=str(log))
    )
    info = place / "somebodys_labels-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-labels\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[tiffin.plugins]\nlabel.{name} = somebodys_labels\n")


def _module() -> str:
    """Something that this kernel has."""
    return LSM.read_text().split(",")[0].strip() if LSM.exists() else "cgroup"


@pytest.fixture
def asked(tiffin: Tiffin, tmp_path: Path) -> Path:
    """What the provider was asked, a JSON array a line."""
    name = _module()
    install(tmp_path / "site-packages", name, tmp_path / "asked")
    tiffin.env["PYTHONPATH"] = str(tmp_path / "site-packages")
    (tmp_path / "asked").touch()
    return tmp_path / "asked"


def lines(asked: Path, what: str) -> list[list[object]]:
    return [
        line for text in asked.read_text().splitlines() if (line := json.loads(text))[0] == what
    ]


def test_a_provider_is_asked_at_creation_and_told_at_init(tiffin: Tiffin, asked: Path) -> None:
    flags = ("--network=none", "--security-opt=label=a", "--security-opt=label=b")
    cid = tiffin.create(*flags, f"-v{asked.parent}:/mnt:z", BUSYBOX, "true")
    assert lines(asked, "allocate") == [["allocate", cid, ["a", "b"], False, [str(asked.parent)]]]
    assert lines(asked, "prepare") == []
    tiffin("start", "--attach", cid)
    assert lines(asked, "prepare") == [["prepare", "same"]]
    (planned,) = [e for e in tiffin.events() if e["type"] == "container.creation_planned"]
    (recorded,) = planned["data"]["security_labels"].values()
    assert recorded == {"claim": "same"}
    tiffin("rm", cid)


def test_a_claim_is_one_containers_until_it_is_removed(tiffin: Tiffin, asked: Path) -> None:
    def claim(cid: str) -> str:
        events = [e for e in tiffin.events() if e["stream"] == f"container/{cid}"]
        (recorded,) = events[0]["data"]["security_labels"].values()
        return str(recorded["claim"])

    first, second = (tiffin.create("--network=none", BUSYBOX) for _ in range(2))
    assert claim(first) == "same"
    assert claim(second) == second  # asked again, as the first one's was taken
    tiffin("rm", first)
    third = tiffin.create("--network=none", BUSYBOX)
    assert claim(third) == "same"
    tiffin("system", "rebuild")
    fourth = tiffin.create("--network=none", BUSYBOX)
    assert claim(fourth) == fourth  # the rebuilt table knows
    tiffin("rm", second, third, fourth)


def test_a_provider_that_refuses_leaves_nothing(tiffin: Tiffin, asked: Path) -> None:
    tiffin("pull", BUSYBOX)
    tiffin.fails("create", "--security-opt=label=bad", BUSYBOX, says="label=bad is bad")
    assert tiffin("ps", "-aq").out == ""
    assert lines(asked, "allocate") != []


def test_a_provider_can_be_turned_off(tiffin: Tiffin, asked: Path) -> None:
    name = _module()
    config = asked.parent / "tiffin.toml"
    tiffin.env["TIFFIN_CONFIG"] = str(config)
    config.write_text(f"[label.{name}]\nenabled = false\n")
    cid = tiffin.create("--network=none", BUSYBOX)
    assert lines(asked, "allocate") == []
    tiffin("rm", cid)
    for bad in (f"[label.{name}]\nenabled = 'no'\n", f"[label]\n{name} = false\n"):
        config.write_text(bad)
        tiffin.fails("create", "--network=none", BUSYBOX, says=f"[label.{name}]")


def test_a_tree_is_labelled_where_it_is_migrated_to(tiffin: Tiffin, asked: Path) -> None:
    """By the container's provider, for a driver whose mounts do not label (overlay's do)."""
    place = asked.parent / "site-packages"
    for path, text in scaffold.files("storage", "dir").items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    (place / "somebodys_labels-1.dist-info/entry_points.txt").open("a").write(
        "storage.dir = tiffin_storage_dir\n"
    )
    flags = ("--network=none", "--security-opt=label=white")
    cid = tiffin.using("--storage-driver=vfs").create(*flags, BUSYBOX)
    assert lines(asked, "relabel") == []
    tiffin("storage", "migrate", "--to=dir", cid)
    ((_, labelled),) = lines(asked, "relabel")
    assert str(labelled).startswith(f"{tiffin.root}/storage/dir/"), labelled
    assert ["share", f"{tiffin.root}/storage/dir"] in lines(asked, "share")
    config = asked.parent / "tiffin.toml"  # the machine has the module no longer
    tiffin.env["TIFFIN_CONFIG"] = str(config)
    config.write_text(f"[label.{_module()}]\nenabled = false\n")
    assert tiffin("storage", "migrate", "--to=overlay", cid).word == cid, "mounted without a label"
    tiffin("rm", cid)
    tiffin("rmi", "-af")


def test_providers_are_chosen_for_a_container(tiffin: Tiffin, asked: Path) -> None:
    def recorded(*flags: str) -> set[str]:
        cid = tiffin.create("--network=none", *flags, BUSYBOX)
        planned = next(e for e in tiffin.events() if e["stream"] == f"container/{cid}")
        tiffin("rm", cid)
        return set(planned["data"].get("security_labels", {}))

    ours = _module()
    tiffin("pull", BUSYBOX)
    everything = recorded()
    assert ours in everything
    assert recorded(f"--label-provider={ours}") == {ours}
    assert recorded("--label-provider=none") == set()
    for given, says in (
        ("nosuch", "no label driver 'nosuch'"),
        ("none," + ours, "none goes with no other"),
        ("selinux" if "selinux" not in everything else "apparmor", "not in force here"),
    ):
        tiffin.fails("create", f"--label-provider={given}", BUSYBOX, says=says)


def test_an_option_of_a_providers_own(tiffin: Tiffin, asked: Path) -> None:
    source = asked.parent / "site-packages/somebodys_labels.py"
    source.write_text(source.read_text().replace('option = "label"', 'option = "colour"'))
    cid = tiffin.create("--network=none", "--security-opt=colour=red", BUSYBOX, "echo", "dal")
    ((_, _, options, _, _),) = lines(asked, "allocate")
    assert options == ["red"]
    tiffin.fails("create", "--security-opt=taste=hot", BUSYBOX, says="'taste=hot' is not known")
    del tiffin.env["PYTHONPATH"]  # a container outlives its provider
    assert tiffin("start", "--attach", cid).word == "dal"
    tiffin("rm", cid)


def test_a_container_outlives_its_provider(tiffin: Tiffin, asked: Path) -> None:
    cid = tiffin.create("--network=none", BUSYBOX, "echo", "dal")
    del tiffin.env["PYTHONPATH"]
    assert tiffin("start", "--attach", cid).word == "dal"
    tiffin("rm", cid)
    assert lines(asked, "prepare") == []


def test_a_provider_whose_module_the_kernel_has_not_is_not_even_loaded(
    tiffin: Tiffin, tmp_path: Path
) -> None:
    place = tmp_path / "site-packages"
    install(place, "nosuchmodule", tmp_path / "asked")
    (place / "somebodys_labels.py").write_text("raise SystemError('imported')\n")
    tiffin.env["PYTHONPATH"] = str(place)
    assert tiffin("run", "--rm", "--network=none", BUSYBOX, "echo", "dal").word == "dal"


def test_a_profile_needs_a_machine_that_has_them(tiffin: Tiffin) -> None:
    if Path("/sys/kernel/security/apparmor").exists():
        pytest.skip("AppArmor is enabled here: test_apparmor has the rest")
    tiffin("pull", BUSYBOX)
    tiffin.fails("create", "--security-opt=apparmor=lunch", BUSYBOX, says="apparmor=lunch")
    off = "--security-opt=apparmor=unconfined"
    assert tiffin("run", "--rm", "--network=none", off, BUSYBOX, "echo", "dal").word == "dal"


class TestProviderOfTheDocs(LabelConformance):
    """The one that docs/writing-a-label-provider.md shows; attributes security.* are root's."""

    @pytest.fixture
    def provider(self, tmp_path: Path) -> LabelProvider:
        names: dict[str, Any] = {}
        (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
        exec(compile(code, PAGE.name, "exec"), names)
        context = DriverContext(root=str(tmp_path / "own"), run=str(tmp_path / "run"))
        provider: LabelProvider = names["label_provider"]("chalk", context)
        assert names["label_provider"]("other", context) is None
        return provider


class TestSELinuxsParts(LabelConformance):
    """The bundled provider, with a policy's files and with another attribute than the kernel's."""

    @pytest.fixture
    def provider(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelProvider:
        lines = ('process = "u:r:container_t:s0"', 'file = "u:object_r:container_file_t:s0"')
        policy = contexts.parse_lxc_contexts("\n".join(lines))
        (tmp_path / "enforce").write_text("1")
        monkeypatch.setattr(driver, "STATE", str(tmp_path / "enforce"))
        monkeypatch.setattr(contexts, "load", lambda: policy)
        monkeypatch.setattr(files, "ATTRIBUTE", "security.tiffin-test")
        return driver.SELinux(DriverContext(root=f"{tmp_path}/own", run=f"{tmp_path}/run"))
