# `make` alone lists what there is. Every target is a script in scripts/ that also runs by itself.

.PHONY: help setup demo test lint bench torture fuzz vm-test clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## */\1\t/p' Makefile | expand -t 10

setup:  ## install what is missing: Debian packages and .venv/bin/tiffin (root)
	@scripts/setup

demo: setup  ## walk through one container's life and show what each stage leaves behind (root)
	@scripts/demo

test:  ## set up, run all tests, and check that nothing is left behind (root); ARGS="-k talk"
	@scripts/test $(ARGS)

lint:  ## ruff and mypy --strict
	@scripts/check

bench:  ## times beside podman's, as ratios (root)
	@scripts/bench $(ARGS)

torture:  ## kill the engine at every step of every command, with every driver; hours (root)
	@scripts/torture $(ARGS)

fuzz:  ## atheris on every parser of strangers' bytes; ARGS="600 tar_headers"
	@scripts/fuzz $(ARGS)

vm-test:  ## the system tests on cgroup v2 with systemd, in a throw-away virtual machine (root)
	@scripts/vm-test $(ARGS)

clean:  ## remove what make made in this checkout
	@scripts/clean
