"""Tables: the log, which is the truth, and the projections, which can be folded from it again.

Durability: WAL with synchronous=FULL. A committed event has been fsynced (sqlite.org/pragma.html,
synchronous), so an acknowledged command survives a power cut.
"""

SCHEMA_VERSION = 4

CONNECTION = ("PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=500")
"""What every connection that writes is told first. (That the log is a WAL is kept in the file.)
A command leaves the WAL as it is; so it is kept at 2 MB, which the next one reads in a ms."""

BUSY_TIMEOUT = 60.0
"""Seconds a writer waits for another's transaction; those last milliseconds."""

LOG = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    type TEXT NOT NULL,
    time INTEGER NOT NULL,
    command TEXT NOT NULL,
    actor TEXT NOT NULL,
    data TEXT NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL,
    UNIQUE (stream, version)
);
CREATE INDEX IF NOT EXISTS events_time ON events (time);
CREATE TABLE IF NOT EXISTS compacted (
    first INTEGER PRIMARY KEY,
    last INTEGER NOT NULL,
    prev TEXT NOT NULL,
    hashes BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS snapshots (
    stream TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    began INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    data TEXT NOT NULL
);
"""

PROJECTIONS = """
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    image TEXT NOT NULL,
    image_id TEXT NOT NULL,
    image_name TEXT NOT NULL,
    command TEXT NOT NULL,
    created INTEGER NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    finished INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER NOT NULL DEFAULT 0,
    oom INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    pid INTEGER NOT NULL DEFAULT 0,
    conmon_pid INTEGER NOT NULL DEFAULT 0,
    storage_driver TEXT NOT NULL,
    runtime TEXT NOT NULL,
    network TEXT NOT NULL,
    ports TEXT NOT NULL,
    labels TEXT NOT NULL,
    layers TEXT NOT NULL,
    options TEXT NOT NULL,
    directory TEXT NOT NULL,
    mounted TEXT NOT NULL DEFAULT '',
    pinned INTEGER NOT NULL DEFAULT 0,
    bundle TEXT NOT NULL DEFAULT '',
    cgroup TEXT NOT NULL DEFAULT '',
    netns TEXT NOT NULL DEFAULT '',
    attachments TEXT NOT NULL DEFAULT '[]',
    process_label TEXT NOT NULL DEFAULT '',
    mount_label TEXT NOT NULL DEFAULT '',
    security_labels TEXT NOT NULL DEFAULT '{}',
    id_maps TEXT NOT NULL DEFAULT '{}',
    spec TEXT NOT NULL DEFAULT '',
    health TEXT NOT NULL DEFAULT '',
    health_failing INTEGER NOT NULL DEFAULT 0,
    stop_signal INTEGER NOT NULL,
    stop_timeout INTEGER NOT NULL,
    remove INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS intents (
    seq INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    operation TEXT NOT NULL,
    command TEXT NOT NULL,
    actor TEXT NOT NULL,
    time INTEGER NOT NULL,
    data TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS intents_stream ON intents (stream);
CREATE TABLE IF NOT EXISTS addresses (
    network TEXT NOT NULL,
    address TEXT NOT NULL,
    container TEXT NOT NULL,
    PRIMARY KEY (network, address)
);
CREATE INDEX IF NOT EXISTS addresses_container ON addresses (container);
CREATE TABLE IF NOT EXISTS leases (
    network TEXT NOT NULL,
    container TEXT NOT NULL,
    mac TEXT NOT NULL,
    addresses TEXT NOT NULL,
    PRIMARY KEY (network, container)
);
CREATE INDEX IF NOT EXISTS leases_container ON leases (container);
CREATE TABLE IF NOT EXISTS label_claims (
    claim TEXT PRIMARY KEY,
    container TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS label_claims_container ON label_claims (container);
CREATE TABLE IF NOT EXISTS networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL,
    created INTEGER NOT NULL,
    config TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS images (
    id TEXT PRIMARY KEY,
    manifest TEXT NOT NULL,
    index_digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    architecture TEXT NOT NULL,
    os TEXT NOT NULL,
    created INTEGER NOT NULL,
    added INTEGER NOT NULL,
    size INTEGER NOT NULL,
    labels TEXT NOT NULL,
    layers TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS secrets (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    labels TEXT NOT NULL,
    created INTEGER NOT NULL,
    complete INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS tags (
    name TEXT PRIMARY KEY,
    image TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS tags_image ON tags (image);
CREATE TABLE IF NOT EXISTS image_steps (
    key TEXT NOT NULL,
    image TEXT NOT NULL,
    parent TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (key, image)
);
CREATE INDEX IF NOT EXISTS image_steps_image ON image_steps (image);
CREATE INDEX IF NOT EXISTS image_steps_parent ON image_steps (parent);
CREATE TABLE IF NOT EXISTS volumes (
    name TEXT PRIMARY KEY,
    driver TEXT NOT NULL,
    path TEXT NOT NULL,
    created INTEGER NOT NULL,
    labels TEXT NOT NULL,
    anonymous INTEGER NOT NULL,
    populated INTEGER NOT NULL DEFAULT 0,
    options TEXT NOT NULL DEFAULT '{}',
    mounted INTEGER NOT NULL DEFAULT 0,
    pinned INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS manifests (
    name TEXT PRIMARY KEY,
    created INTEGER NOT NULL,
    manifests TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS pods (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    network TEXT NOT NULL,
    ports TEXT NOT NULL,
    labels TEXT NOT NULL,
    options TEXT NOT NULL,
    share TEXT NOT NULL,
    directory TEXT NOT NULL,
    up INTEGER NOT NULL DEFAULT 0,
    started INTEGER NOT NULL DEFAULT 0,
    netns TEXT NOT NULL DEFAULT '',
    attachments TEXT NOT NULL DEFAULT '[]',
    namespaces TEXT NOT NULL DEFAULT '{}',
    pause_pid INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS image_mounts (
    id TEXT PRIMARY KEY,
    image TEXT NOT NULL,
    driver TEXT NOT NULL,
    layers TEXT NOT NULL,
    path TEXT NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0,
    container TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS layers (
    driver TEXT NOT NULL,
    chain_id TEXT NOT NULL,
    size INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    PRIMARY KEY (driver, chain_id)
);
CREATE TABLE IF NOT EXISTS defaults (
    kind TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS execs (
    id TEXT PRIMARY KEY,
    container TEXT NOT NULL,
    command TEXT NOT NULL,
    state TEXT NOT NULL,
    started INTEGER NOT NULL,
    pid INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER NOT NULL DEFAULT 0,
    directory TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS plugins (
    name TEXT PRIMARY KEY,
    enabled INTEGER NOT NULL,
    package TEXT NOT NULL,
    changed INTEGER NOT NULL
);
"""

TABLES = (
    "containers",
    "intents",
    "addresses",
    "leases",
    "label_claims",
    "networks",
    "images",
    "tags",
    "image_steps",
    "volumes",
    "manifests",
    "pods",
    "secrets",
    "image_mounts",
    "layers",
    "defaults",
    "execs",
    "plugins",
)
"""The projections, in the order of PROJECTIONS."""
