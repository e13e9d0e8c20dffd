"""The engine: one async command a verb, one module a noun. Each takes an `Engine` and plain
options, and returns plain data; nothing here prints or exits."""

from .. import lean

lean.load_msgspec()
lean.load_trio()  # before anything else imports them
