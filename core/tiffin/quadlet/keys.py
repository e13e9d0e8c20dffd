"""Which key of a quadlet file is which flag (podman-systemd.unit(5)). Data only.

A key's rule is how its value becomes words: `value` (the last one counts), `list` (each a word),
`words` (each word of each), `pairs` (NAME=VALUE words), `bool`, `args` (words as they stand),
`paths` (separated by colons, as one). `own` is dealt with by the kind itself, `absent` names what
tiffin does not have.
"""

from __future__ import annotations

COMMON: dict[str, tuple[str, str]] = {
    "GlobalArgs": ("own", ""),
    "PodmanArgs": ("own", ""),
    "ServiceName": ("own", ""),
    "ContainersConfModule": ("absent", "tiffin reads no containers.conf; see tiffin.toml"),
}

PLACED: dict[str, tuple[str, str]] = {
    "AddHost": ("list", "--add-host"),
    "DNS": ("list", "--dns"),
    "DNSOption": ("list", "--dns-option"),
    "DNSSearch": ("list", "--dns-search"),
    "HostName": ("value", "--hostname"),
    "IP": ("value", "--ip"),
    "IP6": ("value", "--ip6"),
    "Label": ("pairs", "--label"),
    "Network": ("own", ""),
    "NetworkAlias": ("list", "--network-alias"),
    "PublishPort": ("list", "--publish"),
    "ShmSize": ("value", "--shm-size"),
    "Volume": ("own", ""),
}
"""Of containers and of pods."""

IDS: dict[str, tuple[str, str]] = {
    "GIDMap": ("list", "--gidmap"),
    "SubGIDMap": ("value", "--subgidname"),
    "SubUIDMap": ("value", "--subuidname"),
    "UIDMap": ("list", "--uidmap"),
    "UserNS": ("value", "--userns"),
}

CONTAINER: dict[str, tuple[str, str]] = {
    **COMMON,
    **PLACED,
    **IDS,
    "AddCapability": ("words", "--cap-add"),
    "AddDevice": ("own", ""),
    "Annotation": ("pairs", "--annotation"),
    "AutoUpdate": ("own", ""),
    "CgroupsMode": ("own", ""),
    "ContainerName": ("own", ""),
    "DropCapability": ("words", "--cap-drop"),
    "Entrypoint": ("value", "--entrypoint"),
    "Environment": ("pairs", "--env"),
    "EnvironmentFile": ("own", ""),
    "EnvironmentHost": ("own", ""),
    "Exec": ("own", ""),
    "ExposeHostPort": ("list", "--expose"),
    "Group": ("own", ""),
    "GroupAdd": ("list", "--group-add"),
    "HealthCmd": ("value", "--health-cmd"),
    "HealthInterval": ("value", "--health-interval"),
    "HealthLogDestination": ("absent", "tiffin keeps a check's output with the container"),
    "HealthMaxLogCount": ("absent", "tiffin keeps the last five outputs"),
    "HealthMaxLogSize": ("absent", "tiffin keeps the beginning of each output"),
    "HealthOnFailure": ("absent", "nothing is done to an unhealthy container; follow the events"),
    "HealthRetries": ("value", "--health-retries"),
    "HealthStartPeriod": ("value", "--health-start-period"),
    "HealthStartupCmd": ("absent", "there is one check; use HealthStartPeriod="),
    "HealthStartupInterval": ("absent", "there is one check; use HealthStartPeriod="),
    "HealthStartupRetries": ("absent", "there is one check; use HealthStartPeriod="),
    "HealthStartupSuccess": ("absent", "there is one check; use HealthStartPeriod="),
    "HealthStartupTimeout": ("absent", "there is one check; use HealthStartPeriod="),
    "HealthTimeout": ("value", "--health-timeout"),
    "Image": ("own", ""),
    "LogDriver": ("own", ""),
    "LogOpt": ("list", "--log-opt"),
    "Mask": ("paths", "--security-opt mask="),
    "Memory": ("value", "--memory"),
    "Mount": ("own", ""),
    "NoNewPrivileges": ("own", ""),
    "Notify": ("own", ""),
    "PidsLimit": ("value", "--pids-limit"),
    "Pod": ("own", ""),
    "Pull": ("value", "--pull"),
    "ReadOnly": ("bool", "--read-only"),
    "ReadOnlyTmpfs": ("own", ""),
    "ReloadCmd": ("own", ""),
    "ReloadSignal": ("own", ""),
    "Retry": ("absent", "let systemd try again: Restart= in [Service]"),
    "RetryDelay": ("absent", "let systemd try again: RestartSec= in [Service]"),
    "Rootfs": ("absent", "import the directory as an image, and use Image="),
    "RunInit": ("bool", "--init"),
    "SeccompProfile": ("value", "--security-opt seccomp="),
    "Secret": ("list", "--secret"),
    "SecurityLabelDisable": ("own", ""),
    "SecurityLabelFileType": ("value", "--security-opt label=filetype:"),
    "SecurityLabelLevel": ("value", "--security-opt label=level:"),
    "SecurityLabelNested": ("own", ""),
    "SecurityLabelType": ("value", "--security-opt label=type:"),
    "StartWithPod": ("own", ""),
    "StopSignal": ("value", "--stop-signal"),
    "StopTimeout": ("value", "--stop-timeout"),
    "Sysctl": ("words", "--sysctl"),
    "Timezone": ("absent", "set TZ with Environment="),
    "Tmpfs": ("list", "--tmpfs"),
    "Ulimit": ("list", "--ulimit"),
    "Unmask": ("paths", "--security-opt unmask="),
    "User": ("own", ""),
    "WorkingDir": ("value", "--workdir"),
}

POD: dict[str, tuple[str, str]] = {
    **COMMON,
    **PLACED,
    **dict.fromkeys(IDS, ("absent", "give it to each container of the pod")),
    "Volume": ("absent", "give it to each container of the pod"),
    "ExitPolicy": ("own", ""),
    "PodName": ("own", ""),
    "StopTimeout": ("own", ""),
}

NETWORK: dict[str, tuple[str, str]] = {
    **COMMON,
    "DisableDNS": ("bool", "--disable-dns"),
    "DNS": ("list", "--dns"),
    "Driver": ("value", "--driver"),
    "Gateway": ("list", "--gateway"),
    "InterfaceName": ("value", "--interface-name"),
    "Internal": ("bool", "--internal"),
    "IPAMDriver": ("value", "--ipam-driver"),
    "IPRange": ("list", "--ip-range"),
    "IPv6": ("bool", "--ipv6"),
    "Label": ("pairs", "--label"),
    "NetworkDeleteOnStop": ("own", ""),
    "NetworkName": ("own", ""),
    "Options": ("words", "--opt"),
    "Subnet": ("list", "--subnet"),
}

VOLUME: dict[str, tuple[str, str]] = {
    **COMMON,
    "Copy": ("own", ""),
    "Device": ("value", "--opt device="),
    "Driver": ("own", ""),
    "Group": ("own", ""),
    "Image": ("absent", "tiffin has no volumes that are made of images"),
    "Label": ("pairs", "--label"),
    "Options": ("own", ""),
    "Type": ("value", "--opt type="),
    "User": ("own", ""),
    "VolumeName": ("own", ""),
}

IMAGE: dict[str, tuple[str, str]] = {
    **COMMON,
    "AllTags": ("absent", "write a file for each tag"),
    "Arch": ("own", ""),
    "AuthFile": ("value", "--authfile"),
    "CertDir": ("absent", "put them into /etc/containers/certs.d"),
    "Creds": ("absent", "tiffin login, or AuthFile="),
    "DecryptionKey": ("absent", "tiffin has no encrypted images"),
    "Image": ("own", ""),
    "ImageTag": ("own", ""),
    "OS": ("own", ""),
    "Retry": ("absent", "let systemd try again: Restart= in [Service]"),
    "RetryDelay": ("absent", "let systemd try again: RestartSec= in [Service]"),
    "TLSVerify": ("bool", "--tls-verify"),
    "Variant": ("own", ""),
}

BUILD: dict[str, tuple[str, str]] = {
    **COMMON,
    "Annotation": ("pairs", "--annotation"),
    "Arch": ("own", ""),
    "AuthFile": ("absent", "tiffin build takes the logins of tiffin login"),
    "BuildArg": ("pairs", "--build-arg"),
    "DNS": ("list", "--dns"),
    "DNSOption": ("absent", "tiffin build has only DNS="),
    "DNSSearch": ("absent", "tiffin build has only DNS="),
    "Environment": ("pairs", "--env"),
    "File": ("own", ""),
    "ForceRM": ("bool", "--force-rm"),
    "GroupAdd": ("absent", "tiffin build has no --group-add"),
    "ImageTag": ("list", "--tag"),
    "IgnoreFile": ("own", ""),
    "Label": ("pairs", "--label"),
    "Network": ("own", ""),
    "OS": ("own", ""),
    "Pull": ("value", "--pull"),
    "Retry": ("absent", "let systemd try again: Restart= in [Service]"),
    "RetryDelay": ("absent", "let systemd try again: RestartSec= in [Service]"),
    "Secret": ("list", "--secret"),
    "SetWorkingDirectory": ("own", ""),
    "Target": ("value", "--target"),
    "TLSVerify": ("bool", "--tls-verify"),
    "Variant": ("own", ""),
    "Volume": ("own", ""),
}

SECTIONS = {
    "container": ("Container", CONTAINER),
    "pod": ("Pod", POD),
    "network": ("Network", NETWORK),
    "volume": ("Volume", VOLUME),
    "image": ("Image", IMAGE),
    "build": ("Build", BUILD),
}
"""kind -> (section, its keys)"""

QUADLET = ("DefaultDependencies",)
INSTALL = ("Alias", "WantedBy", "RequiredBy", "UpheldBy", "DefaultInstance", "Also")
DEPENDENCIES = (
    *("Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts"),
    *("Before", "After", "OnFailure", "OnSuccess", "PropagatesReloadTo", "JoinsNamespaceOf"),
)
"""Keys of [Unit] whose values are names of units, quadlet files among them."""
