"""Talking to registries: the OCI distribution API over HTTP(S), in threads, without dependencies."""
