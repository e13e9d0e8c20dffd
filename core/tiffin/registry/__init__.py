"""Talking to registries: OCI distribution-spec 1.1 over HTTP. See README.md beside this file."""
