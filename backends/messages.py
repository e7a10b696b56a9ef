"""Messages that hold what users or files have said: fit for any terminal, and short."""

from __future__ import annotations

import os
import re

#: So long may a word be that is no path, and so long a message.
LONGEST_WORD, LONGEST = 80, 290
#: So many paths, which are known to whoever gave them, stay whole and do not count.
FREE_PATHS = 2


class OneSentence(Exception):
    """An error, or a warning, whose message is one short line of text, whatever is quoted in it."""

    def __init__(self, message: object = "") -> None:
        super().__init__(sentence(str(message)))


def sentence(text: str, most: int = LONGEST) -> str:
    """``text`` without what is no text (control characters could write anything on a terminal): those are shown as
    Python writes them. Long words are cut, then the end of a long message; paths stay whole and do not count. What
    is left has ``most`` characters at most, and the dots."""
    text = printable(text)
    words, length, paths = re.split(r"(\s+)", text), 0, 0
    for index, word in enumerate(words):
        paths += _is_path(word)
        if not _is_path(word) or paths > FREE_PATHS:
            words[index] = _cut(word)
            length += len(words[index])
        if length > most:
            return "".join(words[:index]).rstrip() + " ..."
    return "".join(words)


def printable(text: str) -> str:
    """``text`` with what is no text, such as control characters, as Python writes it."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def first_line(error: Exception, most: int = 120) -> str:
    """What an error says, in so many characters at most; its type, if it says nothing."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= most else f"{lines[0][: most - 3]}..."


def _is_path(word: str) -> bool:
    return os.sep in word and len(word) <= 255


def _cut(word: str) -> str:
    if len(word) <= LONGEST_WORD:
        return word
    return f"{word[: LONGEST_WORD // 2]}...{word[-10:]}"
