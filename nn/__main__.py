"""``python -m nn COMMAND``: what can be done with the files of a run. ``train.py`` makes them.

A command is a module with two functions: ``arguments(parser)`` declares its words, ``run(options)`` does it and returns
the exit code. To add one is to add a line to ``COMMANDS``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .cli import UsageError
from .cli.flags import Parser
from .report import compared

#: Name, module, and what it does.
COMMANDS = {"compare": (compared, "lay the reports of runs side by side")}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the words of ``argv`` ask for.

    Returns:
        The exit code: 0; 2 where words or a file cannot be used, and one sentence then says why; 141 where the output
        is read no further.
    """
    parser = Parser(prog="python -m nn", description="What can be done with the files of a run.", allow_abbrev=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (command, text) in COMMANDS.items():
        one = commands.add_parser(name, help=text, description=command.__doc__, allow_abbrev=False)
        command.arguments(one)
        one.set_defaults(run=command.run)
    try:
        options = parser.parse_args(argv)
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, `head` for instance, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ValueError, OSError) as error:
        print(f"python -m nn: error: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
