"""Messages that hold what users or files have said: see ``backends.messages``."""

from __future__ import annotations

from backends.messages import LONGEST as LONGEST
from backends.messages import OneSentence as OneSentence
from backends.messages import first_line as first_line
from backends.messages import printable as printable
from backends.messages import sentence as sentence
