"""Dockerfiles as text. See README.md beside this file."""
