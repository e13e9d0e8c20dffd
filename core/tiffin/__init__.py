"""tiffin: a container engine that explains itself.

Import nothing here: every command pays for what this module imports.
"""

__version__ = "0.1.0"

USER_MARK = "_TIFFIN_USER"
"""Environment of what runs within an ordinary user's namespace (`tiffin.rootless`). Here, so that
where there is none nothing has to be imported to know that."""
