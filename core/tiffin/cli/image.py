"""Commands that bring images in, name them and remove them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import flag_words
from .container_flags import PLATFORM
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..registry.auth import Credentials

QUIET = Flag("quiet", "q", help="no progress")


def _pull(call: Call) -> int:
    from .share import credentials, use_authfile

    use_authfile(call)
    given = credentials(call.options["creds"])
    names = _all_tags(call, given) if call.options["all_tags"] else call.arguments
    from ..engine import drivers, images
    from .progress import for_stderr
    from .session import each

    async def work(engine: Engine, name: str) -> str:
        driver = await drivers.storage_name(engine)
        wanted = images.Pull(
            policy="always",
            platform=flag_words.platform(call.options),
            tls_verify=bool(call.options["tls_verify"]),
            progress=for_stderr(bool(call.options["quiet"])),
            credentials=given,
        )
        return (await images.fetch(engine, name, driver=driver, pull=wanted)).removeprefix(
            "sha256:"
        )

    return each(call, names, work)


def _all_tags(call: Call, given: Credentials | None) -> list[str]:
    """Every tag of the repositories. Error: UserError for a name with a tag."""
    from ..errors import UserError
    from ..images import reference
    from .session import drive

    wanted = [reference.parse(name) for name in call.arguments]
    for name, parsed in zip(call.arguments, wanted, strict=True):
        if parsed.digest or name.rpartition("/")[2].count(":"):
            raise UserError(f"pull --all-tags: {name} is one of them", hint="leave the tag out")

    async def work(_: Engine) -> list[str]:
        from ..registry import registries
        from ..registry.searcher import Searcher

        found = []
        for parsed in wanted:
            place = registries.endpoints(parsed, registries.load())[-1]
            verify = bool(call.options["tls_verify"]) and not place.insecure
            async with Searcher(
                place.registry, place.repository, tls_verify=verify, credentials=given
            ) as asked:
                tags = await asked.tags(MOST_TAGS)
            found += [f"{parsed.registry}/{parsed.repository}:{tag}" for tag in tags]
        return found

    return drive(call, work)


MOST_TAGS = 10_000


PULL = Command(
    name="pull",
    usage="IMAGE [IMAGE...]",
    summary="Fetch images from a registry and unpack them",
    flags=(
        *PLATFORM,
        QUIET,
        Flag("disable-content-trust", help="Taken for docker's sake: no effect", default=True),
        Flag("all-tags", "a", help="all images of the repository"),
        Flag("authfile", kind="str", metavar="FILE", help="where the logins are"),
        Flag("cert-dir", kind="str", metavar="DIRECTORY", help="certificates for the registry"),
        Flag("creds", kind="str", metavar="USER:PASSWORD", help="who we are, instead of a login"),
        Flag("tls-verify", default=True, help="demand HTTPS with a certificate that is trusted"),
    ),
    arguments=(1, None),
    examples=(
        "tiffin pull docker.io/library/alpine:3.20",
        "tiffin pull localhost:5000/app",
        "tiffin pull embedded:busybox",
    ),
    run=_pull,
)


def _load(call: Call) -> int:
    from ..engine import loading
    from .session import drive

    source = call.options["input"] or (call.arguments[0] if call.arguments else "-")

    async def work(engine: Engine) -> list[str]:
        return await loading.load(engine, source)

    for name in drive(call, work):
        print(f"Loaded image: {name}")
    return 0


LOAD = Command(
    name="load",
    usage="[ARCHIVE]",
    summary="Load images from a docker-archive, an oci-archive or an OCI directory",
    flags=(
        Flag("input", "i", kind="str", metavar="FILE", help="the archive; else standard input"),
        QUIET,
    ),
    arguments=(0, 1),
    examples=("tiffin load -i app.tar", "tiffin load < app.tar"),
    run=_load,
)


def _import(call: Call) -> int:
    from ..engine import loading
    from .session import drive

    name = call.arguments[1] if len(call.arguments) > 1 else ""

    async def work(engine: Engine) -> str:
        return await loading.import_rootfs(
            engine,
            call.arguments[0],
            name,
            message=call.options["message"] or "",
            changes=tuple(call.options["change"]),
        )

    print(drive(call, work))
    return 0


IMPORT = Command(
    name="import",
    usage="ROOTFS.tar|- [IMAGE]",
    summary="Make an image of one layer from the tar of a file system",
    flags=(
        Flag("change", "c", kind="list", metavar="INSTRUCTION", help="CMD, ENV, ... of the image"),
        Flag("message", "m", kind="str", metavar="TEXT", help="what it is"),
        QUIET,
    ),
    arguments=(1, 2),
    examples=("tiffin import -c 'CMD [\"/bin/sh\"]' rootfs.tar base",),
    run=_import,
)


def _tag(call: Call) -> int:
    from ..engine import images
    from .session import drive

    async def work(engine: Engine) -> None:
        await images.tag(engine, call.arguments[0], call.arguments[1:])

    drive(call, work)
    return 0


TAG = Command(
    name="tag",
    usage="IMAGE NAME [NAME...]",
    summary="Give an image more names",
    flags=(),
    arguments=(2, None),
    examples=("tiffin tag app localhost:5000/app:1.0",),
    run=_tag,
)


def _untag(call: Call) -> int:
    from ..engine import images
    from .session import drive

    async def work(engine: Engine) -> None:
        await images.untag(engine, call.arguments[0], call.arguments[1:])

    drive(call, work)
    return 0


UNTAG = Command(
    name="untag",
    usage="IMAGE [NAME...]",
    summary="Take names from an image; all of them when none is given",
    flags=(),
    arguments=(1, None),
    examples=("tiffin untag app",),
    run=_untag,
)


def _rmi(call: Call) -> int:
    from ..engine import images
    from ..errors import UserError
    from ..store import queries
    from .session import drive, each, removal_codes

    names = list(call.arguments)
    if call.options["all"]:

        async def everything(engine: Engine) -> list[str]:
            return [row["id"] for row in await engine.store.rows(queries.IMAGES)]

        names = drive(call, everything)
    elif not names:
        raise UserError("no image is named", hint="a name or an id is wanted")

    force = bool(call.options["force"])
    missing_is_well = force or bool(call.options["ignore"])

    async def work(engine: Engine, name: str) -> str | None:
        if missing_is_well and await images.find(engine, name) is None:
            return None  # what is to be gone is gone
        every_name = bool(call.options["all"])
        lines = await images.remove(engine, name, force=force, every_name=every_name)
        return "\n".join(lines)

    return each(call, names, work, removal_codes)


RMI = Command(
    name="rmi",
    usage="IMAGE [IMAGE...]",
    summary="Remove images: a name, and with the last name the layers that nothing else uses",
    flags=(
        Flag("all", "a", help="all images"),
        Flag("force", "f", help="with the containers that use them; one not there is no error"),
        Flag("ignore", "i", help="one that is not there is no error"),
        Flag("no-prune", help="taken for docker's sake: images below are never removed"),
    ),
    arguments=(0, None),
    examples=("tiffin rmi app", "tiffin rmi --all"),
    run=_rmi,
)
