"""Quadlet: `.container`, `.volume`, `.network`, `.pod`, `.image` and `.build` files as units of
systemd that run tiffin. See README.md beside this file."""
