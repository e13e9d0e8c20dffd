"""The bundle: config.json and the files it mounts, gathered, written, and handed to conmon."""

from __future__ import annotations

import json
import os
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import msgspec
from msgspec import Struct

from .. import conmon, network_modes, programs
from ..errors import DriverError, RuntimeFailed, UserError
from ..hooks import Amendment, Attachment, IdMaps, Labels
from ..images import digest
from ..network_modes import CONTAINER
from ..options import ContainerOptions, Device
from ..spec import amend, asked, build, facts, files, resources, rlimits, seccomp, users
from ..spec.request import HostDevice, Spec, SpecRequest
from ..store import queries
from . import cgroup_places, exit_command, images, labels, runtime_places
from . import rootfs as root
from .hold import Held

LAST_INIT = (
    "SELECT data FROM events WHERE stream=? AND type='container.init_planned' ORDER BY seq DESC "
    "LIMIT 1"
)
INIT_PLACES = ("/usr/libexec/podman/catatonit", "/usr/bin/catatonit")


class Made(Struct, frozen=True):
    """What conmon reports, and the digest of the config.json it was given."""

    pid: int
    conmon_pid: int
    spec_digest: str


def options_of(held: Held) -> ContainerOptions:
    return msgspec.convert(held.row["options"], ContainerOptions)


def check(options: ContainerOptions) -> None:
    """What of the options can be wrong on this machine, told before anything is made: limits,
    devices, the seccomp profile. Error: UserError."""
    host = facts.gather()
    rlimits.limits(options.ulimits, host.hard_limits, may_raise=host.may_raise_limits)
    controllers = frozenset[str]() if options.cgroups == "disabled" else host.controllers
    list(
        resources.entries(
            options.resources, host.cpus, cgroup_v2=host.cgroup_v2, controllers=controllers
        )
    )
    devices(options)
    _profile(options)
    if options.init:
        init_program(options.init_path)
    zone_file(options.timezone)
    if options.log_driver == "journald":
        _need_journal()
        _log_tag(options)
    if any({"O", "U"} & set(mount.options) for mount in options.mounts):
        from . import special_mounts

        special_mounts.check(options)


async def make(held: Held, attachments: Sequence[Attachment], netns: str) -> Made:
    """Write the bundle of a mounted container and have the runtime create it.

    Errors: UserError (no such user, a bad option), RuntimeFailed, DriverError.
    """
    row, options = held.row, options_of(held)
    rootfs = row["mounted"] or root.path(held.engine, row)
    spec, data, env = await _compose(held, attachments, netns, rootfs, row["cgroup"])
    try:
        keeping = nullcontext() if row["remove"] else _synced(row["directory"])
        with keeping, _with_secrets(held, spec, env) if env else nullcontext():
            made = await conmon.create(monitor(held, options))
    except RuntimeFailed as error:
        raise error.naming(spec.document["process"]["args"][0]) from error
    return Made(made.pid, made.conmon_pid, digest.of(data))


@contextmanager
def _synced(directory: str) -> Iterator[None]:
    """While the runtime is at work the disk gets config.json and origins.json, so that they are
    there once the log speaks of them: `explain` and `system check` read them after a power cut.
    Error: OSError."""
    failure: list[OSError] = []
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    paths = (f"{directory}/config.json", f"{directory}/origins.json", directory)
    opened = [os.open(path, flags) for path in paths]

    def sync() -> None:
        try:
            for fd in opened:
                os.fsync(fd)
        except OSError as error:
            failure.append(error)

    thread = threading.Thread(target=sync, name="sync")
    thread.start()
    try:
        yield
    finally:
        thread.join()
        for fd in opened:
            os.close(fd)
    if failure:
        raise failure[0]


def _with_secrets(held: Held, spec: Spec, env: dict[str, str]) -> AbstractContextManager[None]:
    from . import secrets

    return secrets.shown(held, spec.document, env)


async def rewrite(held: Held, rootfs: str) -> str:
    """Write the config.json of the last `init` again; returns its digest. hosts, resolv.conf and
    hostname are left as they are, if they are there. Errors: as for `make`."""
    planned = await held.engine.store.rows(LAST_INIT, (held.stream,))
    if not planned:
        raise UserError(f"container {held.row['name']} was never initialized")
    told = planned[0]["data"]
    told = json.loads(told) if isinstance(told, str) else told
    attachments = msgspec.convert(told.get("attachments", ()), tuple[Attachment, ...])
    netns = told.get("netns", "")
    if not netns and network_modes.joins(held.row["network"]):
        from . import shared

        netns = await shared.namespace(held.engine, held.row)
    if held.row["id_maps"]:
        from . import idmaps

        await idmaps.pin(held)
        root.enterable(held)
    try:
        _, data, _ = await _compose(
            held, attachments, netns, rootfs, told.get("cgroup", ""), rewriting=True
        )
        with _synced(held.row["directory"]):
            pass
    finally:
        if not held.row["pid"] and options_of(held).secrets:
            from . import secrets

            secrets.forget(held.engine, held.id)
        if held.row["id_maps"] and not (held.row["pid"] or held.row["mounted"]):
            root.leave(held.engine, held.id)
    return digest.of(data)


async def _compose(
    held: Held,
    attachments: Sequence[Attachment],
    netns: str,
    rootfs: str,
    cgroup: str,
    *,
    rewriting: bool = False,
) -> tuple[Spec, bytes, dict[str, str]]:
    """Write config.json and the files that it mounts; also gives the secret variables."""
    engine, row = held.engine, held.row
    options = options_of(held)
    directory = row["directory"]
    if any(mount.type == "volume" for mount in options.mounts):
        from . import volumes

        options = await volumes.mounted(held, options, rootfs)
    image_config = dict(images.read_config(engine, row["image_id"]).config)
    users.no_pipes(rootfs)
    runtime_places.need_plain(rootfs)
    given_user = options.user or image_config.get("User") or ""
    user, accounts_files = _accounts(held, options, image_config, rootfs, given_user)
    for mount in options.mounts:
        if mount.type == "bind" and not os.path.exists(mount.source):
            raise UserError(f"-v {mount.source}:{mount.target}: {mount.source} does not exist")
    if any(m.type == "image" or {"O", "U"} & set(m.options) for m in options.mounts):
        from . import special_mounts

        options = await special_mounts.prepare(held, options, user)
    runtime_places.need_null(rootfs, options.mounts)
    host = facts.gather()
    placed = _write_files(directory, held, options, attachments, host.hostname, rewriting=rewriting)
    placed = (*placed, *accounts_files)
    if row["network"].startswith(CONTAINER):
        from . import shared

        placed = await shared.files(held, dict(placed))
    notified = _notify_socket(held)
    if notified:
        # conmon makes its end of it there, and passes on what comes.
        os.makedirs(f"{directory}/notify", mode=0o755, exist_ok=True)
        placed = (*placed, ("/run/notify", f"{directory}/notify"))
    joined: dict[str, str] = {}
    if options.pod:
        from . import pods

        pod = await pods.up(engine, options.pod, row["name"])
        joined, placed = pods.joined(pod), pods.files(pod, row["name"], placed)
        if "uts" in pod["share"]:
            options = msgspec.structs.replace(options, hostname=pods.hostname(pod))
    if ":" in options.pid or ":" in options.uts:
        from . import other_namespaces

        joined |= await other_namespaces.paths(engine, row, options)
    env: dict[str, str] = {}
    own = [file for _, file in placed]
    common = [file for file in own if options.pod and not file.startswith(f"{directory}/")]
    secret_files: list[str] = []
    if options.secrets:
        from . import secrets

        given = await secrets.place(held, options)
        env, placed = given.env, (*placed, *given.files)
        secret_files = secrets.labelled(given)
        secrets.mend_link(f"{directory}/config.json")
    in_force = await labels.prepare(held, [*own, *secret_files])
    # What is a pod's is for all its containers, each of which has a label of its own.
    for path in (*common, *(joined[kind] for kind in ("shm",) if kind in joined)):
        await labels.relabel(held, path, shared=True)
    await labels.relabel_volumes(held, options)
    if row["id_maps"]:
        from . import mapped_mounts

        mapped_mounts.hand_over(held, own, secret_files)
        options = mapped_mounts.place(held, options)
    request = SpecRequest(
        id=held.id,
        name=row["name"],
        image_config=image_config,
        image_labels=image_config.get("Labels") or {},
        options=options,
        facts=host,
        rootfs=root.path(engine, row),
        user=user,
        cgroup=cgroup_places.in_spec(cgroup),
        netns=netns,
        userns=engine.layout.userns(held.id) if row["id_maps"] else "",
        joins_owner=row["network"].startswith(CONTAINER) and row["network"] == options.userns,
        id_maps=msgspec.convert(row["id_maps"], IdMaps),
        files=placed,
        devices=tuple(devices(options)),
        seccomp_profile=_profile(options),
        init_program=await _own_init(held, in_force) if options.init else "",
        process_label=in_force.process_label,
        mount_label=in_force.mount_label,
        apparmor_profile=in_force.profile,
        joined=joined,
        notify="/run/notify/notify.sock" if notified else "",
    )
    spec = build.build(request)
    _amend(held, spec)
    data = _readable(spec.document)
    _write(f"{directory}/config.json", data)
    _write(f"{directory}/origins.json", msgspec.json.encode(spec.origins))
    return spec, data, env


def _accounts(
    held: Held,
    options: ContainerOptions,
    image_config: Mapping[str, Any],
    rootfs: str,
    given_user: str,
) -> tuple[users.User, tuple[tuple[str, str], ...]]:
    """The user, and [(place in the container, file here)] of passwd and group where they get lines
    of ours. Error: UserError."""
    passwd, group = users.read(rootfs, "/etc/passwd"), users.read(rootfs, "/etc/group")
    if not options.host_users:
        user = users.resolve(given_user, passwd, group, options.group_add)
        if user.name or not user.uid or not options.passwd:
            return user, ()
    from ..spec import accounts  # rarely

    brought = {os.path.normpath(mount.target) for mount in options.mounts}
    user, files = accounts.settle(
        *(given_user, passwd, group),
        group_add=options.group_add,
        host_users=options.host_users,
        entry=options.passwd_entry,
        home=options.workdir or image_config.get("WorkingDir") or "/",
        add=options.passwd and not brought & {"/etc", accounts.PASSWD, accounts.GROUP},
    )
    placed = []
    for place, text in files.items():
        path = f"{held.row['directory']}/{os.path.basename(place)}"
        _write(path, text.encode("utf-8", "surrogateescape"), 0o644)
        os.chmod(path, 0o644)
        placed.append((place, path))
    return user, tuple(placed)


def monitor(held: Held, options: ContainerOptions) -> conmon.Monitor:
    """What conmon is to look after."""
    engine, row = held.engine, held.row
    runtime = engine.runtime(row["runtime"])
    layout = engine.layout
    unit, slice = cgroup_places.conmon_unit(row["cgroup"], options)
    without = getattr(runtime, "without_cgroup", ()) if row["cgroup"] == cgroup_places.NONE else ()
    return conmon.Monitor(
        container=held.id,
        name=row["name"],
        runtime=runtime.program(),
        failure=runtime.failure,
        arguments=(*runtime.arguments(), *without),
        by_systemd=cgroup_places.is_scope(row["cgroup"]),
        unit=unit,
        slice=slice,
        uid=layout.uid,
        notify=_notify_socket(held),
        bundle=row["directory"],
        run=layout.container_run(held.id),
        log=_log(held, options),
        log_tag=_log_tag(options, row),
        log_size_max=options.log_size_max,
        timeout=options.timeout,
        preserve_fds=held.preserve_fds,
        terminal=options.tty,
        stdin=options.interactive,
        exit_command=exit_command.of(layout, held.id),
    )


def _log(held: Held, options: ContainerOptions) -> str:
    """What conmon is told. Error: UserError when there is no journal for it."""
    if options.log_driver == "journald":
        _need_journal()
        return options.log_driver
    if options.log_driver == "none":
        return ""
    if options.log_driver == conmon.PASSTHROUGH:
        return options.log_driver
    return options.log_path or f"{held.row['directory']}/ctr.log"


def _log_tag(options: ContainerOptions, row: queries.Row | None = None) -> str:
    if not options.log_tag:
        return ""
    from .. import log_tags  # rarely

    log_tags.check(options.log_tag)
    return log_tags.render(options.log_tag, row) if row else ""


def _need_journal() -> None:
    from .. import journal  # rarely

    if not journal.there():
        raise UserError(
            f"--log-driver journald: nothing listens at {journal.SOCKET}: systemd-journald does "
            "not run here",
            hint="--log-driver k8s-file needs nothing",
        )


def _notify_socket(held: Held) -> str:
    """The service manager's, if the container is to write to it."""
    if not held.engine.notify_socket:
        return ""
    from . import notify

    return notify.proxied(held.engine, held.row)


def _readable(document: Any) -> bytes:
    """Indented JSON, by msgspec for its speed. Words that are no UTF-8 only json can write."""
    try:
        return msgspec.json.format(msgspec.json.encode(document), indent=1)
    except UnicodeEncodeError:
        return json.dumps(document, indent=1, ensure_ascii=True).encode("ascii")


def _write(path: str, data: bytes, mode: int = 0o600) -> None:
    """A file of ours in the container's directory, which nobody else can write to."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with open(fd, "wb") as file:
        file.write(data)


def _write_files(
    directory: str,
    held: Held,
    options: ContainerOptions,
    attachments: Sequence[Attachment],
    host_name: str,
    *,
    rewriting: bool = False,
) -> tuple[tuple[str, str], ...]:
    """hosts, resolv.conf and hostname; [(place in the container, file here)]."""
    contents = network_files(held.row, options, attachments, host_name)
    for file_name, text in contents.items():
        path = f"{directory}/{file_name}"
        if rewriting and os.path.exists(path):
            continue
        _write(path, text.encode("utf-8", "surrogateescape"), 0o644)
        os.chmod(path, 0o644)
    placed = [(f"/etc/{file_name}", f"{directory}/{file_name}") for file_name in contents]
    if zone := zone_file(options.timezone):
        path = f"{directory}/localtime"
        if not (rewriting and os.path.exists(path)):
            with open(zone, "rb") as source:
                _write(path, source.read(), 0o644)
            os.chmod(path, 0o644)
        placed.append(("/etc/localtime", path))
    return tuple(placed)


ZONES = "/usr/share/zoneinfo"


def zone_file(name: str) -> str:
    """The file of `--tz NAME` on this machine; empty for none. Error: UserError."""
    if name in ("", "local"):
        return "/etc/localtime" if name and os.path.exists("/etc/localtime") else ""
    path = os.path.normpath(f"{ZONES}/{name}")
    if not path.startswith(f"{ZONES}/") or not os.path.isfile(path):
        raise UserError(f"--tz {name!r}: there is no such timezone in {ZONES}", hint="Asia/Tokyo")
    return path


def network_files(
    row: queries.Row, options: ContainerOptions, attachments: Sequence[Attachment], host_name: str
) -> dict[str, str]:
    """What hosts, resolv.conf and hostname say of a container on these networks."""
    shared = options.network == "host"
    name = options.hostname or (host_name if shared else row["id"][:12])
    addresses = [a.partition("/")[0] for at in attachments for a in at.addresses]
    gateway = next((s.gateway for at in attachments for s in at.network.subnets if s.gateway), "")
    gateway = next((at.network.host for at in attachments if at.network.host), gateway)
    contents = {"hostname": f"{name}\n"}
    if not options.no_hosts:
        host = _host_file("/etc/hosts") if shared else None
        names = name, row["name"]
        contents["hosts"] = files.hosts(addresses, names, options.add_hosts, gateway, host)
    if options.dns != ("none",):
        resolver = _host_file("/etc/resolv.conf")
        if not shared and files.only_here(resolver):
            resolver = _host_file(UPLINK) or resolver
        wanted = files.resolving(
            *(attachments, options.dns, options.dns_search, options.dns_options),
            own_network=not shared,
        )
        contents["resolv.conf"] = files.resolv_conf(resolver, wanted)
    return contents


UPLINK = "/run/systemd/resolve/resolv.conf"
"""The servers that systemd-resolved(8) asks, where the host's own file has only its stub."""


def _host_file(path: str) -> str:
    """What the host's file says; nothing when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def devices(options: ContainerOptions) -> list[HostDevice]:
    """--device, and with --privileged all of /dev. Error: UserError for what is no device."""
    found = []
    if options.privileged:
        found += _all_devices("/dev")
    for device in options.devices:
        found.append(_device(device))
    return list({device.path: device for device in found}.values())


def _device(device: Device) -> HostDevice:
    flag = f"--device {device.source}"
    try:
        status = os.stat(device.source)
    except OSError as error:
        raise UserError(f"{flag}: {error.strerror}") from None
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise UserError(f"{flag}: not a device")
    place = device.target or device.source
    return _host_device(place, status, device.permissions, flag, device.source)


def _host_device(
    path: str, status: os.stat_result, permissions: str, flag: str, source: str = ""
) -> HostDevice:
    return HostDevice(
        path=path,
        type="c" if stat.S_ISCHR(status.st_mode) else "b",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        permissions=permissions,
        flag=flag,
        source=source,
    )


SKIPPED = frozenset(("pts", "shm", "mqueue", "fd", "console", "ptmx", "tty"))
STANDARD = frozenset(("null", "zero", "full", "random", "urandom"))


def _all_devices(directory: str) -> list[HostDevice]:
    found = []
    for entry in sorted(os.scandir(directory), key=lambda e: e.name):
        if directory == "/dev" and entry.name in SKIPPED | STANDARD:
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            found += _all_devices(entry.path)
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            found.append(_host_device(entry.path, status, "rwm", "--privileged"))
    return found


def _profile(options: ContainerOptions) -> Mapping[str, Any] | None:
    given = asked.security(options).get("seccomp", [""])[-1]
    return seccomp.load(given) if given not in ("", "unconfined") else None


def init_program(given: str = "") -> str:
    """Error: UserError for `given` (`--init-path`), DriverError for a missing catatonit."""
    if given:
        if not (os.path.isabs(given) and os.access(given, os.X_OK) and os.path.isfile(given)):
            raise UserError(f"--init-path {given!r} is not the absolute path of a program")
        return given
    for path in INIT_PLACES:
        if os.path.exists(path):
            return path
    return programs.find("catatonit")


async def _own_init(held: Held, in_force: Labels) -> str:
    """The program of --init. Under a label the host's may not be run: a copy is made, and labelled
    as the container's own."""
    program = init_program(options_of(held).init_path)
    if not in_force.mount_label:
        return program
    with open(program, "rb") as file:
        data = file.read()
    path = f"{held.row['directory']}/init"
    _write(path, data, 0o755)
    os.chmod(path, 0o755)
    await labels.relabel(held, path)
    return path


def _amend(held: Held, spec: Spec) -> None:
    """Ask the plugins of kind `spec`, in their order. Errors: DriverError that names one, and what
    one says to the user."""
    plugins = held.engine.plugins
    if not plugins.names("spec"):
        return
    from copy import deepcopy

    plugins.load("spec", plugins.names("spec"))
    for name, hook in plugins.implementations("spec", "amend_spec"):
        document = deepcopy(
            spec.document
        )  # a plugin that writes into it changes nothing unrecorded
        told = {
            "container": held.id,
            "spec": document,
            "annotations": document.get("annotations", {}),
        }
        try:
            changes: Sequence[Amendment] = tuple(hook(told) or ())
        except UserError:
            raise
        except Exception as error:
            raise DriverError(f"plugin {name} failed to amend config.json: {error}") from error
        amend.apply(spec.document, spec.origins, name, changes)
