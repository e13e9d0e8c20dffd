"""Conformance suites for drivers: ours pass them, and a third party runs them on theirs.

Each suite is a class in a module of its own; subclass it in a test module and give it the one
fixture that its docstring names.
"""
