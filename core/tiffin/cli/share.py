"""`push`, `save`, `login` and `logout`: images on their way out."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, UserError
from . import outputs
from .flags import Call, Command, Flag

if TYPE_CHECKING:
    from ..engine.base import Engine
    from ..engine.push import Pushed
    from ..registry.auth import Credentials

AUTHFILE = Flag("authfile", "", "str", "FILE", "Where the logins are (REGISTRY_AUTH_FILE)")
TLS = Flag("tls-verify", help="Demand HTTPS with a certificate that is trusted", default=True)


CERT_DIR = Flag("cert-dir", "", "str", "DIRECTORY", "Certificates and keys for the registry")
CREDS = Flag("creds", "", "str", "USER:PASSWORD", "Who we are, instead of a login")


def use_authfile(call: Call) -> None:
    """--authfile and --cert-dir are what the environment's variables would say."""
    if call.options["authfile"]:
        os.environ["REGISTRY_AUTH_FILE"] = call.options["authfile"]
    directory = call.options.get("cert_dir")
    if directory:
        if not os.path.isdir(directory):
            raise UserError(f"--cert-dir {directory}: not a directory")
        os.environ["TIFFIN_CERT_DIR"] = directory


def credentials(text: str) -> Credentials | None:
    """`--creds USER:PASSWORD`."""
    if not text:
        return None
    from ..registry.auth import Credentials

    name, colon, password = text.partition(":")
    if not colon:
        raise UserError("--creds is not of the form USER:PASSWORD")
    return Credentials(name, password)


def _push(call: Call) -> int:
    use_authfile(call)
    from .progress import for_stderr
    from .session import drive

    destination = call.arguments[1] if len(call.arguments) > 1 else ""
    kind, colon, rest = destination.partition(":")
    if colon and rest.startswith("//") and kind == "docker":
        destination = rest[2:]
    elif colon and kind in ("oci", "oci-archive", "docker-archive", "dir"):
        raise UserError(f"push goes to a registry, not to {kind}:", hint="see tiffin save")

    async def work(engine: Engine) -> Pushed:
        from ..engine import push

        return await push.push(
            engine,
            call.arguments[0],
            destination,
            tls_verify=bool(call.options["tls_verify"]),
            progress=for_stderr(bool(call.options["quiet"])),
            credentials=credentials(call.options["creds"]),
        )

    done = drive(call, work)
    if call.options["digestfile"]:
        with open(call.options["digestfile"], "w", encoding="ascii") as file:
            file.write(done.digest)
    return 0


PUSH = Command(
    "push",
    "IMAGE [DESTINATION]",
    "Send an image to a registry. What is there already is not sent, and what another repository "
    "there has is taken from it",
    (
        AUTHFILE,
        CERT_DIR,
        CREDS,
        Flag("disable-content-trust", help="Taken for docker's sake: no effect", default=True),
        Flag("remove-signatures", help="Taken for podman's sake: none are sent"),
        Flag("digestfile", "", "str", "FILE", "Write the manifest's digest to a file"),
        Flag("quiet", "q", help="No progress"),
        TLS,
    ),
    (1, 2),
    ("tiffin push localhost:5000/app:1.0", "tiffin push app docker://registry.example/team/app"),
    _push,
)


def _save(call: Call) -> int:
    from ..image_archive import DIRECTORIES, FORMATS
    from .session import drive

    kind, path = call.options["format"], call.options["output"]
    if kind not in FORMATS:
        raise UserError(f"--format {kind!r} is not known", hint=", ".join(FORMATS))
    if kind in DIRECTORIES and not path:
        raise UserError(f"save: --format {kind} needs --output", hint="-o DIRECTORY")
    if kind == "docker-dir" and len(call.arguments) > 1:
        raise UserError("save: --format docker-dir takes one image", hint="oci-dir takes several")
    outputs.check(path, "save: an archive")

    async def work(engine: Engine) -> None:
        from ..engine import saving

        chosen = await saving.choose(engine, call.arguments)
        if kind in DIRECTORIES:
            await saving.save(engine, chosen, kind, directory=path)
            return
        with outputs.opened(path) as out:
            await saving.save(engine, chosen, kind, out=out)

    drive(call, work)
    return 0


SAVE = Command(
    "save",
    "IMAGE [IMAGE...]",
    "Write images to an archive or a directory, every blob as it is here",
    (
        Flag("format", "", "str", "FORMAT", "docker-archive, oci-archive, oci-dir, docker-dir",
             "docker-archive"),
        Flag("multi-image-archive", "m", help="Taken for podman's sake: several may always be"),
        Flag("output", "o", "str", "FILE", "To a file instead of standard output"),
        Flag("quiet", "q", help="Taken for podman's sake: there is no progress"),
        Flag("compress", help="Taken for podman's sake: layers are as they were fetched"),
        Flag("uncompressed", help="Taken for podman's sake: layers are as they were fetched"),
    ),
    (1, None),
    ("tiffin save -o app.tar app", "tiffin save --format oci-archive app web > both.tar"),
    _save,
)  # fmt: skip


def registry_of(text: str) -> str:
    """The key of auth.json: a registry, or a repository in one. Error: UserError."""
    bare = text.removeprefix("https://").removeprefix("http://").rstrip("/")
    if not bare or any(c.isspace() or ord(c) < 33 for c in bare) or "@" in bare:
        raise UserError(f"{text!r} is not a registry", hint="HOST[:PORT]")
    return bare


def _login(call: Call) -> int:
    use_authfile(call)
    from ..registry import logins

    key = registry_of(call.arguments[0] if call.arguments else "docker.io")
    file = logins.path()
    if call.options["get_login"]:
        name = logins.username(file, key)
        if not name:
            raise NotFound(f"not logged into {key}")
        print(name)
        return 0
    given = _asked(call.options, key)
    from .session import drive

    async def work(_: Engine) -> None:
        from ..registry.pusher import Pusher

        host, _slash, repository = key.partition("/")
        verify = bool(call.options["tls_verify"])
        async with Pusher(host, repository, tls_verify=verify, credentials=given) as registry:
            await registry.check_login()

    drive(call, work)
    logins.store(file, key, given)
    print("Login Succeeded!")
    return 0


def _asked(options: dict[str, Any], key: str) -> Credentials:
    from ..registry.auth import Credentials

    name, password = options["username"], options["password"]
    if options["password_stdin"]:
        if password:
            raise UserError("--password and --password-stdin are both given")
        if not name:
            raise UserError("--password-stdin needs --username")
        password = sys.stdin.readline().rstrip("\r\n")
    if not (name and password) and not sys.stdin.isatty():
        raise UserError(
            f"login to {key}: no user name or password",
            hint="give --username and --password-stdin",
        )
    if not name:
        name = input("Username: ")
    if not password:
        from getpass import getpass

        password = getpass("Password: ")
    if not name or ":" in name:
        raise UserError(f"{name!r} is not a user name")
    return Credentials(name, password)


LOGIN = Command(
    "login",
    "[REGISTRY]",
    "Log in to a registry; the login is kept in auth.json, which podman and skopeo read as well",
    (
        AUTHFILE,
        CERT_DIR,
        Flag("get-login", help="Print who is logged in"),
        Flag("password", "p", "str", "PASSWORD", "Others may see it: --password-stdin is better"),
        Flag("password-stdin", help="Read the password from standard input"),
        Flag("username", "u", "str", "NAME", "Whom to log in"),
        TLS,
    ),
    (0, 1),
    ("tiffin login -u me --password-stdin registry.example < password",),
    _login,
)


def _logout(call: Call) -> int:
    use_authfile(call)
    from ..registry import logins

    file = logins.path()
    if call.options["all"]:
        if call.arguments:
            raise UserError("logout: --all takes no registry")
        logins.forget_all(file)
        print("Removed login credentials for all registries")
        return 0
    key = registry_of(call.arguments[0] if call.arguments else "docker.io")
    if not logins.forget(file, key):
        raise NotFound(f"not logged into {key}")
    print(f"Removed login credentials for {key}")
    return 0


LOGOUT = Command(
    "logout",
    "[REGISTRY]",
    "Forget the login to a registry",
    (AUTHFILE, Flag("all", "a", help="All logins")),
    (0, 1),
    ("tiffin logout registry.example",),
    _logout,
)
