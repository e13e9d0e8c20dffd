"""The table of commands: where each is, so that only the one that runs is imported."""

from __future__ import annotations

GROUPS = (
    "Containers, stage by stage",
    "Containers",
    "Images",
    "What happened",
    "The engine",
)
STAGES, CONTAINERS, IMAGES, STORY, ENGINE = GROUPS

COMMANDS: dict[str, tuple[str, str, str]] = {
    "create": ("run:CREATE", STAGES, "Make a container: metadata only"),
    "mount": ("life:MOUNT", STAGES, "Mount a container's file system and print where"),
    "init": ("life:INIT", STAGES, "Write config.json and let the runtime create the container"),
    "start": ("life:START", STAGES, "Start containers"),
    "exec": ("life:EXEC", STAGES, "Run another process in a running container"),
    "kill": ("life:KILL", STAGES, "Send a signal to containers"),
    "commit": ("life:COMMIT", STAGES, "Save a container's file system as an image"),
    "unmount": ("life:UNMOUNT", STAGES, "Unmount a container's file system"),
    "rm": ("life:RM", STAGES, "Remove containers"),
    "run": ("run:RUN", CONTAINERS, "Create a container and start it"),
    "ps": ("ps:PS", CONTAINERS, "List containers"),
    "inspect": ("inspect:INSPECT", CONTAINERS, "Show all that is known of containers and images"),
    "logs": ("logs:LOGS", CONTAINERS, "Show what a container wrote"),
    "attach": ("life:ATTACH", CONTAINERS, "Connect this terminal to a running container"),
    "stop": ("life:STOP", CONTAINERS, "Stop containers: a signal, and force after a while"),
    "restart": ("life:RESTART", CONTAINERS, "Stop containers and start them again"),
    "wait": ("life:WAIT", CONTAINERS, "Wait until containers have ended; print their exit codes"),
    "port": ("port:PORT", CONTAINERS, "List the published ports of containers"),
    "images": ("images:IMAGES", IMAGES, "List images"),
    "pull": ("image:PULL", IMAGES, "Fetch images from a registry"),
    "load": ("image:LOAD", IMAGES, "Load images from an archive or a directory"),
    "import": ("image:IMPORT", IMAGES, "Make an image from the tar of a file system"),
    "tag": ("image:TAG", IMAGES, "Give an image more names"),
    "untag": ("image:UNTAG", IMAGES, "Take names from an image"),
    "rmi": ("image:RMI", IMAGES, "Remove images"),
    "history": ("history:HISTORY", STORY, "Tell a container's life, or show an image's layers"),
    "diff-state": ("diff_state:DIFF_STATE", STORY, "Show what changed between two moments"),
    "explain": ("explain:EXPLAIN", STORY, "Tell a container's story, and where its config is from"),
    "events": ("events:EVENTS", STORY, "Print the log of events"),
    "info": ("system:INFO", ENGINE, "Show the engine's drivers, paths and counts"),
    "version": ("system:VERSION", ENGINE, "Show the versions of tiffin and what it uses"),
    # Subcommands: found before a command of their first word.
    "events verify": ("verify:VERIFY", STORY, "Check the chain of hashes over all events"),
    "events consumers": ("consumers:CONSUMERS", STORY, "List the durable consumers of the log"),
    "events ack": ("consumers:ACK", STORY, "Acknowledge events for a durable consumer"),
    "events forget": ("consumers:FORGET", STORY, "Forget how far a durable consumer has come"),
    "events schema": ("event_schema:SCHEMA", STORY, "Print the JSON Schema of events"),
    "events seal": ("verify:SEAL", STORY, "Write a signed checkpoint of the log"),
    "image history": (
        "history:IMAGE_HISTORY",
        IMAGES,
        "Show the layers of an image and what made them",
    ),
    "image import": ("image:IMPORT", IMAGES, "Make an image from the tar of a file system"),
    "image inspect": ("inspect:IMAGE_INSPECT", IMAGES, "Show all that is known of images"),
    "image load": ("image:LOAD", IMAGES, "Load images from an archive or a directory"),
    "image ls": ("images:IMAGES", IMAGES, "List images"),
    "image pull": ("image:PULL", IMAGES, "Fetch images from a registry"),
    "image rm": ("image:RMI", IMAGES, "Remove images"),
    "image tag": ("image:TAG", IMAGES, "Give an image more names"),
    "image untag": ("image:UNTAG", IMAGES, "Take names from an image"),
    "container attach": ("life:ATTACH", CONTAINERS, "Connect this terminal to a container"),
    "container cleanup": ("system:CLEANUP", CONTAINERS, "Take away mounts and networks of an exit"),
    "container commit": ("life:COMMIT", CONTAINERS, "Save a container's file system as an image"),
    "container create": ("run:CREATE", CONTAINERS, "Make a container: metadata only"),
    "container exec": ("life:EXEC", CONTAINERS, "Run another process in a running container"),
    "container history": ("life_story:CONTAINER_HISTORY", CONTAINERS, "Tell a container's life"),
    "container init": ("life:INIT", CONTAINERS, "Let the runtime create the container"),
    "container inspect": ("inspect:CONTAINER_INSPECT", CONTAINERS, "Show all about containers"),
    "container kill": ("life:KILL", CONTAINERS, "Send a signal to containers"),
    "container logs": ("logs:LOGS", CONTAINERS, "Show what a container wrote"),
    "container ls": ("ps:PS", CONTAINERS, "List containers"),
    "container mount": ("life:MOUNT", CONTAINERS, "Mount a container's file system"),
    "container port": ("port:PORT", CONTAINERS, "List the published ports of containers"),
    "container restart": ("life:RESTART", CONTAINERS, "Stop containers and start them again"),
    "container rm": ("life:RM", CONTAINERS, "Remove containers"),
    "container run": ("run:RUN", CONTAINERS, "Create a container and start it"),
    "container start": ("life:START", CONTAINERS, "Start containers"),
    "container stop": ("life:STOP", CONTAINERS, "Stop containers"),
    "container unmount": ("life:UNMOUNT", CONTAINERS, "Unmount a container's file system"),
    "container wait": ("life:WAIT", CONTAINERS, "Wait until containers have ended"),
    "network connect": ("connections:CONNECT", ENGINE, "Put a container on one more network"),
    "network create": ("network:CREATE", ENGINE, "Define a network"),
    "network disconnect": ("connections:DISCONNECT", ENGINE, "Take a container off a network"),
    "network exists": ("networks:EXISTS", ENGINE, "Exit with 0 when there is such a network"),
    "network explain": ("network_explain:EXPLAIN", ENGINE, "Draw a network, and what is amiss"),
    "network inspect": ("networks:INSPECT", ENGINE, "Show all that is known of networks"),
    "network ls": ("networks:LS", ENGINE, "List networks"),
    "network prune": ("network:PRUNE", ENGINE, "Remove networks that no container is on"),
    "network reload": ("network:RELOAD", ENGINE, "Mend what others did to containers' networks"),
    "network rm": ("network:RM", ENGINE, "Remove networks"),
    "network update": ("connections:UPDATE", ENGINE, "Change the name servers of a network"),
    "plugin ls": ("system:PLUGIN_LS", ENGINE, "List the installed plugins"),
    "system check": ("check:CHECK", ENGINE, "Look for damage in the store"),
    "system info": ("system:INFO", ENGINE, "Show the engine's drivers, paths and counts"),
    "system rebuild": ("system:REBUILD", ENGINE, "Fold the log of events into the tables again"),
    "system recover": ("system:RECOVER", ENGINE, "Finish or undo what dead processes left open"),
}
"""name -> (module:attribute, group, one line)"""

ALIASES = {
    "umount": "unmount",
    "list": "ps",
    "image list": "image ls",
    "image remove": "image rm",
    "container list": "container ls",
    "container ps": "container ls",
    "container umount": "container unmount",
    "network list": "network ls",
    "network remove": "network rm",
    "plugin list": "plugin ls",
}

NOUNS = {
    "container": "Everything about containers",
    "image": "Everything about images",
    "network": "Networks that containers can join",
    "plugin": "Drivers and other plugins",
    "system": "The store itself",
}
"""First words that are no commands of their own."""


def find(words: list[str]) -> tuple[str, int] | None:
    """(name, how many words it took) of the longest command at the beginning of `words`."""
    for count in (2, 1):
        name = " ".join(words[:count])
        name = ALIASES.get(name, name)
        if len(words) >= count and name in COMMANDS:
            return name, count
    return None
