"""`cp`: files between this machine and a container, or two containers.

A container may change its tree while we copy, and put links where directories were. So every name
is looked up with the container's root as root directory (openat2(2), RESOLVE_IN_ROOT), and what
lies below is reached from descriptor to descriptor, never through a link.
"""
