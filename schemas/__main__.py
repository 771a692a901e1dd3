"""`python -m schemas check|release`: may these schemas be published? Those that are, are they untouched?"""

from __future__ import annotations

import argparse
import sys

from schemas import released
from schemas.errors import TongbuError


def main() -> int:
    """Run the command line; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser(
        "check", help="refuse changed released files, incompatible minors, fields without doc"
    )
    commands.add_parser(
        "release", help="make every schema file public: from then on it never changes"
    )
    if parser.parse_args().command == "release":
        return _release()
    found = released.check()
    for error in found:
        print(error, file=sys.stderr)
    return 1 if found else 0


def _release() -> int:
    try:
        names = released.release()
    except TongbuError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(f"released {name}" for name in names) or "nothing new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
