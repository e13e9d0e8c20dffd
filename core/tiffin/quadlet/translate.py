"""Quadlet files to services. Pure: what is read, resolved and written is done by others.

A file becomes a service whose command lines run tiffin. What it refers to by another file's name
(`Volume=data.volume:/data`) is the thing which that file's service makes, and a dependency on it.
"""

from __future__ import annotations

import os

from ..errors import UserError
from . import keys, unitfile
from .sources import Source

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence

NAME_KEYS = {
    "container": "ContainerName",
    "pod": "PodName",
    "network": "NetworkName",
    "volume": "VolumeName",
}
SUFFIX = {"container": "", "pod": "-pod", "network": "-network", "volume": "-volume"}
SUFFIX |= {"image": "-image", "build": "-build"}


class Service:
    """A unit to be written."""

    __slots__ = ("links", "name", "source", "text")

    def __init__(self, name: str, source: str, text: str, links: Sequence[str]) -> None:
        self.name = name
        """`web.service`."""
        self.source = source
        """Path of the file it was made of."""
        self.text = text
        self.links = tuple(links)
        """Where links to it are to be, below the generator's directory: what [Install] asks."""


class Context:
    """What all files know of each other, and of who runs them."""

    def __init__(
        self, found: Sequence[Source], *, program: Sequence[str], user: bool, uid: int = 0
    ) -> None:
        self.program = tuple(program)
        self.user = user
        self.uid = uid
        self.by_name = {source.name: source for source in found if source.kind in keys.SECTIONS}
        self.started_by_pod: dict[str, list[str]] = {}
        """Pod file -> services that it starts."""

    def command(self, source: Source, *words: str) -> list[str]:
        """The program with the file's GlobalArgs and words."""
        section = keys.SECTIONS[source.kind][0]
        program = map(unitfile.literal, self.program)
        return [*program, *source.text.words(section, "GlobalArgs"), *words]

    def find(self, name: str, key: str) -> Source:
        """The file that is referred to. Error: UserError."""
        source = self.by_name.get(name)
        if source is None and "@" in name:  # an instance of a template
            base, _, rest = name.partition("@")
            source = self.by_name.get(f"{base}@.{rest.rpartition('.')[2]}")
        if source is None:
            raise UserError(f"{key}: there is no usable file {name} beside it")
        return source


class Draft:
    """A service as it grows."""

    def __init__(self, context: Context, source: Source) -> None:
        self.context = context
        self.source = source
        self.section, self.rules = keys.SECTIONS[source.kind]
        self.text = source.text
        self.unit: list[tuple[str, str]] = []
        """What is added to [Unit], before what the file says."""
        self.service: list[tuple[str, str]] = []
        """What is added to [Service], after what the file says."""

    def last(self, key: str) -> str:
        return self.text.last(self.section, key)

    def all(self, key: str) -> list[str]:
        return self.text.all(self.section, key)

    def boolean(self, key: str) -> bool | None:
        return self.text.boolean(self.section, key)

    def said(self, key: str) -> str:
        """What the file itself says in [Service]."""
        return self.text.last("Service", key)

    def serve(self, key: str, value: str) -> None:
        """Set it, unless the file does."""
        if not self.text.all("Service", key):
            self.service.append((key, value))

    def run(self, key: str, words: Sequence[str], *, optional: bool = False) -> None:
        """A command of the service; `optional`: it may fail."""
        self.service.append((key, ("-" if optional else "") + unitfile.command(words)))

    def needs(self, service: str) -> None:
        self.unit += [("Requires", service), ("After", service)]

    def flags(self) -> list[str]:
        """The words of all keys that simply are flags, in the order of the file's first use."""
        found: list[str] = []
        for key in dict.fromkeys(self.text.keys(self.section)):
            rule, flag = self.rules[key]
            found += self._words(key, rule, flag)
        return found

    def _words(self, key: str, rule: str, flag: str) -> list[str]:
        values: list[str] = []
        if rule == "value":
            values = [self.last(key)] if self.last(key) else []
        elif rule == "list":
            values = [_bare(value) for value in self.all(key)]
        elif rule == "words":
            values = self.text.words(self.section, key)
        elif rule == "pairs":
            values = self.text.pairs(self.section, key)
        elif rule == "paths":
            values = [":".join(self.all(key))] if self.all(key) else []
        elif rule == "bool":
            truth = self.boolean(key)
            return [] if truth is None else [flag if truth else f"{flag}=false"]
        if " " in flag:  # --opt device=
            flag, _, before = flag.partition(" ")
            return [word for value in values for word in (flag, before + value)]
        return [word for value in values for word in (flag, value)]

    def more(self) -> list[str]:
        """PodmanArgs=."""
        return self.text.words(self.section, "PodmanArgs")

    def path(self, text: str) -> str:
        """A path of the file's, from where it stands; what begins with a specifier stays."""
        if text.startswith(("/", "%")):
            return text
        here = unitfile.literal(self.source.directory)
        return os.path.normpath(f"{here}/{text}")

    def finish(self, *, online: bool = True) -> Service:
        """`online`: it may have to fetch something."""
        sections: dict[str, list[tuple[str, str]]] = {"Unit": []}
        wanted = self.text.boolean("Quadlet", "DefaultDependencies") is not False
        if online and wanted and not self.context.user:
            sections["Unit"] += [
                ("Wants", "network-online.target"),
                ("After", "network-online.target"),
            ]
        sections["Unit"] += dict.fromkeys(self.unit)
        sections["Unit"].append(("SourcePath", self.source.path.replace("%", "%%")))
        for section, entries in self.text.sections.items():
            if section == "Unit":
                sections["Unit"] += [(key, self._linked(key, value)) for key, value in entries]
            elif section not in (self.section, "Quadlet"):
                sections[section] = list(entries)
        sections["Service"] = [*sections.get("Service", ()), *self.service]
        name = service_name(self.source)
        return Service(
            name, self.source.path, unitfile.render(sections), install_links(self.source, name)
        )

    def _linked(self, key: str, value: str) -> str:
        """Quadlet files among the names of units are those that are made of them."""
        if key not in keys.DEPENDENCIES:
            return value
        return " ".join(
            service_name(self.context.find(word, f"{key}={word}"))
            if word.rpartition(".")[2] in keys.SECTIONS
            else word
            for word in value.split()
        )


def _bare(value: str) -> str:
    """Without quotes around the whole of it."""
    if len(value) > 1 and value[0] == value[-1] == '"' and '"' not in value[1:-1]:
        return value[1:-1]
    return value


# --- names ----------------------------------------------------------------------------------------


def service_name(source: Source) -> str:
    section = keys.SECTIONS[source.kind][0]
    given = source.text.last(section, "ServiceName")
    if given:
        return f"{given.removesuffix('.service')}.service"
    base, at, instance = source.stem.partition("@")
    return f"{base}{SUFFIX[source.kind]}{at}{instance}.service"


def resource_name(source: Source) -> str:
    """Of the container, pod, network or volume that its service makes; of the image."""
    section = keys.SECTIONS[source.kind][0]
    if source.kind == "image":
        return source.text.last(section, "ImageTag") or source.text.last(section, "Image")
    if source.kind == "build":
        return (source.text.all(section, "ImageTag") or [""])[0]
    given = source.text.last(section, NAME_KEYS[source.kind])
    if given:
        return given
    if source.kind == "container":
        # Of a template each instance has its own.
        return "systemd-%P_%I" if "@" in source.stem else "systemd-%N"
    return f"systemd-{source.stem}"


def outside_name(source: Source) -> str:
    """The same, as another unit's file must write it: specifiers would be that one's."""
    name = resource_name(source)
    if source.kind == "container":
        own = service_name(source).removesuffix(".service")
        base, _, instance = own.partition("@")
        for specifier, text in (("%N", own), ("%p", base), ("%P", base), ("%n", f"{own}.service")):
            name = name.replace(specifier, text)
        name = name.replace("%i", instance or "%i").replace("%I", instance or "%I")
    return name


def install_links(source: Source, service: str) -> list[str]:
    """Where `systemctl enable` would put links. Error: UserError."""
    text = source.text
    for key in text.keys("Install"):
        if key not in keys.INSTALL:
            raise UserError(f"{key}= in [Install] is not known; known: {', '.join(keys.INSTALL)}")
    found = []
    for alias in text.words("Install", "Alias"):
        if alias.endswith(".service") and "/" not in alias:
            found.append(alias)
        else:
            raise UserError(f"Alias={alias} is not the name of a service")
    base, at, rest = service.partition("@")
    if at and rest == ".service":
        instance = text.last("Install", "DefaultInstance")
        if not instance:
            return found
        service = f"{base}@{instance}.service"
    for key, folder in (("WantedBy", "wants"), ("RequiredBy", "requires"), ("UpheldBy", "upholds")):
        for target in text.words("Install", key):
            if "/" in target or "." not in target:
                raise UserError(f"{key}={target} is not the name of a unit")
            found.append(f"{target}.{folder}/{service}")
    return found


# --- all of them ----------------------------------------------------------------------------------


def check(source: Source) -> None:
    """Sections and keys that are known. Error: UserError that names what is not."""
    if source.kind == "kube":
        raise UserError("tiffin cannot play Kubernetes YAML yet; write .container and .pod files")
    section, rules = keys.SECTIONS[source.kind]
    if section not in source.text.sections:
        raise UserError(f"there is no section [{section}]")
    for kind, (other, _) in keys.SECTIONS.items():
        if other != section and other in source.text.sections:
            raise UserError(f"[{other}] belongs into a .{kind} file")
    known = {section: rules, "Quadlet": dict.fromkeys(keys.QUADLET, ("own", ""))}
    for where, allowed in known.items():
        for key in source.text.keys(where):
            rule, why = allowed.get(key, ("", ""))
            if rule == "absent":
                raise UserError(f"{key}= in [{where}] is not there in tiffin: {why}")
            if not rule:
                raise UserError(f"{key}= in [{where}] is not known{_suggestion(key, allowed)}")


def _suggestion(key: str, known: Sequence[str] | dict[str, tuple[str, str]]) -> str:
    import difflib  # only for typos

    close = difflib.get_close_matches(key, list(known), 1, 0.6)
    return f"; did you mean {close[0]}=?" if close else ""


def services(
    found: Sequence[Source], *, program: Sequence[str], user: bool, uid: int = 0
) -> tuple[list[Service], list[str]]:
    """(services, problems: `PATH: what is wrong`). A file with a problem makes no service."""
    from . import kinds

    problems: list[str] = []
    usable = []
    for source in found:
        try:
            check(source)
        except UserError as error:
            problems.append(f"{source.path}: {error}")
        else:
            usable.append(source)
    context = Context(usable, program=program, user=user, uid=uid)
    made: dict[str, Service] = {}
    # Pods last: they start the containers that are in them.
    for source in sorted(usable, key=lambda one: (one.kind == "pod", one.name)):
        try:
            service = kinds.MAKERS[source.kind](Draft(context, source))
            if service.name in made:
                other = made[service.name].source
                raise UserError(f"{service.name} is what {other} is called already; ServiceName=")
        except UserError as error:
            problems.append(f"{source.path}: {error}")
            continue
        made[service.name] = service
    return list(made.values()), problems
