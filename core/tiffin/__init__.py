"""tiffin: a container engine that explains itself.

Import nothing here: every command pays for what this module imports.
"""

__version__ = "0.1.0"
