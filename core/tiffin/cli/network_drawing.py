"""`network explain` as one would draw it on a napkin. Pure: a story in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..hooks import Rule
from ..netstate import Interface, Namespace
from ..network_story import ContainerStory, Holder, NetworkStory, Plug
from .printable import line


def draw(story: NetworkStory | ContainerStory) -> str:
    lines = _network(story) if isinstance(story, NetworkStory) else _container(story)
    return "".join(f"{line(text)}\n" for text in lines)


def _network(story: NetworkStory) -> Iterable[str]:
    subnets = ", ".join(subnet["subnet"] for subnet in story.subnets)
    options = "".join(f", {key}={value}" for key, value in story.options.items())
    yield f"network {story.name}: {story.driver}, {subnets}{', internal' * story.internal}{options}"
    yield ""
    if not story.plugs:
        yield "  no container is on it now, so nothing of it is on the host"
    else:
        outside = "no way out: it is internal" if story.internal else "the world"
        yield f"  {outside}"
        yield f"    {'x' if story.internal else '|'}"
        yield f"  {_interface(story.interface, story.found)}"
        yield from _cables(story.plugs)
    yield ""
    yield "  addresses"
    width = max((len(h.address) for h in story.holders), default=0)
    yield from (f"    {h.address.ljust(width)}  {_holder(h)}" for h in story.holders)
    yield from _rules(story.rules)
    yield from _obstacles(story.obstacles)
    yield from _differences(story.differences, "tiffin network reload --all")


def _interface(name: str, found: Interface | None) -> str:
    if found is None:
        return f"{name}  MISSING"
    addresses = "".join(f"{address}  " for address in found.addresses)
    kind = f"{found.kind}, " if found.kind else ""
    return f"{name}  {addresses}({kind}{'up' if found.up else 'DOWN'}, mtu {found.mtu})"


def _cables(plugs: Sequence[Plug]) -> Iterable[str]:
    """One line a container, and one for each port below it."""
    names = max(len(plug.name) for plug in plugs)
    for number, plug in enumerate(plugs):
        last = number == len(plugs) - 1
        cable = f"{plug.host_interface} --- {plug.interface}"
        if plug.found is None:
            cable = f"{plug.host_interface} -x- {plug.interface} MISSING"
        addresses = "  ".join(plug.addresses)
        yield f"    {'`' if last else '|'}-- {cable}  {plug.name.ljust(names)}  {addresses}"
        for port in plug.ports:
            yield f"    {' ' if last else '|'}     {port}"


def _holder(holder: Holder) -> str:
    if holder.use == "kept":
        return f"kept for {holder.who}, which does not run"
    return holder.who


def _rules(rules: Sequence[Rule]) -> Iterable[str]:
    if rules:
        yield ""
        yield "  rules"
    for rule in rules:
        state = "" if rule.expected and rule.there else "MISSING: " if rule.expected else "STRAY: "
        yield f"    {state}{rule.text}"


def _obstacles(obstacles: Sequence[Rule]) -> Iterable[str]:
    if obstacles:
        yield ""
        yield "  another firewall is in the way, which tiffin leaves alone"
    for rule in obstacles:
        yield f"    ! {rule.text}; this lets it through:"
        yield f"      {rule.remedy}"


def _differences(differences: Sequence[str], remedy: str) -> Iterable[str]:
    yield ""
    if not differences:
        yield "  the kernel has what the log says"
        return
    yield f"  differences between the log and the kernel ({remedy} mends what is missing)"
    yield from (f"    ! {text}" for text in differences)


def _container(story: ContainerStory) -> Iterable[str]:
    noun = "" if story.name.startswith("pod ") else "container "
    yield f"{noun}{story.name}: {story.state}, --network {story.network}"
    yield ""
    if story.found is None:
        yield "  it does not run, so it has no interfaces"
        return
    yield from _namespace(story)
    yield from _rules(story.rules)
    yield from _obstacles(story.obstacles)
    if story.plugs:
        whose = "--all" if story.network.startswith("container:") else story.name
        yield from _differences(story.differences, f"tiffin network reload {whose}")


def _namespace(story: ContainerStory) -> Iterable[str]:
    found: Namespace | None = story.found
    assert found is not None
    host = "the host's network namespace" if story.network == "host" else ""
    yield f"  {story.netns or host or 'a network namespace on no network'}"
    if story.shared_with:
        yield f"  shared with {', '.join(story.shared_with)}"
    plugs = {plug.interface: plug for plug in story.plugs}
    for link in found.interfaces:
        plug = plugs.get(link.name)
        where = f"  --- {plug.host_interface} on {plug.network}" if plug else ""
        if plug and link.kind == "tun":
            where = f"  --- a process of {plug.network}"
        yield f"    {_interface(link.name, link)}{where}"
        for port in plug.ports if plug else ():
            yield f"      {port}"
    yield from (f"    {name}  MISSING" for name in plugs if found.named(name) is None)
    if found.routes:
        yield ""
        yield "  routes"
    for route in found.routes:
        if route.destination == "default" or not route.destination.startswith("fe80:"):
            by = f" by {route.gateway}" if route.gateway else ""
            metric = f", metric {route.metric}" if route.metric else ""
            yield f"    {route.destination}{by} on {route.interface}{metric}"
