"""``python -m nn COMMAND``, or ``xpnet COMMAND``: use a model that ``train.py`` has trained.

A command is a module with two functions: ``arguments(parser)`` declares its words, ``run(options)`` does it and returns
the exit code. To add one is to add a line to ``COMMANDS``.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from backends.loading import ENDED_BY_CTRL_C, loaded

from .cli import UsageError
from .cli.console import OutputLost, lasting_streams
from .cli.flags import Parser
from .cli.kinds import did_you_mean
from .commands import describe, evaluate, exporting, importing, predict
from .commands.console import as_called, complain, program, warn
from .report import compared
from .version import __version__

#: Name, module, and what it does.
COMMANDS: dict[str, tuple[Any, str]] = {
    "predict": (predict, "say what a model sees in pictures, arrays or tables"),
    "evaluate": (evaluate, "measure a model on rows with labels"),
    "describe": (describe, "show what a model is: layers, what it takes and gives, its training"),
    "export": (exporting, "write a model for ONNX, PyTorch, Keras, scikit-learn, NumPy or as JSON"),
    "import": (importing, "make a model from a file of PyTorch, Keras or scikit-learn"),
    "compare": (compared, "lay the reports of runs side by side"),
}
DESCRIPTION = "Use a trained model. A MODEL is a file .safetensors, or the folder that train.py --output wrote."
BEGIN = (
    ("python train.py --data mnist --batch-size 128 --output out", "train a network on MNIST and keep it in out/"),
    ("python -m nn predict out/ three.png", "have it read a digit"),
)


def build_parser(beside: Mapping[str, str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        beside: commands that are not done here, and what they do: they are only listed.
    """
    parser = Parser(
        prog=program(),
        description=as_called(DESCRIPTION),
        epilog=epilog(),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"xpnet {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in (beside or {}).items():
        commands.add_parser(name, help=text)
    for name, (command, text) in COMMANDS.items():
        one = commands.add_parser(
            name,
            help=text,
            description=command.__doc__,
            epilog=as_called(examples_text(getattr(command, "EXAMPLES", ()))),
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.arguments(one)
        one.set_defaults(run=command.run, parser=one)
    return parser


def epilog() -> str:
    """How to begin, at the end of the help."""
    width = max(len(as_called(line)) for line, _ in BEGIN)
    lines = "\n".join(f"  {as_called(line):<{width}}  {text}" for line, text in BEGIN)
    more = as_called("`python -m nn COMMAND --help` tells what a command takes, with examples.")
    return f"how to begin:\n{lines}\n\n{more}\n"


def examples_text(examples: Sequence[tuple[str, str]]) -> str:
    """What the help of a command shows: command lines, and what they do."""
    return "\n".join(["examples:", *(f"  {line}\n      {text}" for line, text in examples)]) if examples else ""


def main(argv: Sequence[str] | None = None, beside: Mapping[str, str] | None = None) -> int:
    """Do what the words of ``argv`` ask for.

    Args:
        beside: as of ``build_parser``.

    Returns:
        The exit code: 0; 1 where the output cannot be written; 2 where words or a file cannot be used, and one sentence
        then says why; 130 for Ctrl-C, and 141 where the output is read no further.
    """
    loaded()
    words = sys.argv[1:] if argv is None else list(argv)
    with lasting_streams(program()) as output:
        output.is_needed = True
        try:
            code = run(words, beside)
            output.flush()
        except OutputLost as lost:
            if isinstance(lost.error, BrokenPipeError):  # whoever read the output, `head` for instance, has left
                return 141
            complain(f"the output cannot be written: {lost}")
            return 1
        except KeyboardInterrupt:
            return ENDED_BY_CTRL_C
        except OSError as error:
            # The system's own sentence begins with a number: "[Errno 28] No space left on device: 'a.npz'".
            complain(f"{error.filename}: {error.strerror}" if error.strerror and error.filename else error)
            return 2
        except (UsageError, ValueError) as error:
            complain(error)
            return 2
    return code


def run(words: Sequence[str], beside: Mapping[str, str] | None = None) -> int:
    """Do what ``words`` ask for, and return the exit code."""
    known = [*(beside or {}), *COMMANDS]
    if not words:
        raise UsageError(f"name a command: {', '.join(known)} (--help tells what they do)")
    if not words[0].startswith("-") and words[0] not in known:
        raise UsageError(f"unknown command {words[0]!r}{did_you_mean(words[0], known)} (--help lists all)")
    parser = build_parser(beside)
    options, rest = parser.parse_known_args(words)
    if rest:
        raise UsageError(_unexpected(rest[0].partition("=")[0], words[0], options.parser))
    with warnings.catch_warnings():
        warnings.showwarning = warn
        warnings.simplefilter("default", UserWarning)
        code: int = options.run(options)
        return code


def _unexpected(word: str, command: str, parser: argparse.ArgumentParser) -> str:
    if not word.startswith("-"):
        return f"unexpected {word!r} (--help tells what {command} takes)"
    flags = re.findall(r"--[a-z][a-z-]+", parser.format_usage())
    return f"unknown flag {word}{did_you_mean(word, flags)} (--help lists all)"


if __name__ == "__main__":
    sys.exit(main())
