"""The event log and its projections in one SQLite file.

`log` appends and reads (sans-io: it yields SQL, `sync` and `aio` run it), `projections` says what
each event does to the read tables, `queries` reads them. Import the submodule you need.
"""
