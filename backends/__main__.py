"""``python -m backends``: the devices of this machine, and why the others cannot be used."""

from __future__ import annotations

import sys

from .devices import Device, available


def main() -> int:
    """Print a line for each device; 0."""
    for spec, found in available():
        if isinstance(found, Device):
            print(f"{spec:<26} ready: {found.version()} on {found.hardware()}")
        else:
            print(f"{spec:<26} not usable: {str(found).removeprefix(f'{spec}: ')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
