"""The commands of ``python -m nn``, a module each.

A command is a module with ``arguments(parser)``, which declares its words, and ``run(options)``, which does it and
returns the exit code. Its docstring is its help, and ``EXAMPLES`` are what the help shows: command lines and what they
do.
"""
