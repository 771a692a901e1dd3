"""`python -m schemas check|release|dictionary`: may these schemas be published? Are published ones untouched?"""

from __future__ import annotations

import argparse
import sys

from schemas import dictionary, released
from schemas.catalog import Catalog
from schemas.errors import TongbuError


def main() -> int:
    """Run the command line; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser(
        "check",
        help="refuse changed released files, incompatible minors, fields without doc, a stale dictionary",
    )
    commands.add_parser(
        "release", help="make every schema file public: from then on it never changes"
    )
    commands.add_parser("dictionary", help="write docs/dictionary.md")
    actions = {"check": _check, "release": _release, "dictionary": _dictionary}
    try:
        return actions[parser.parse_args().command]()
    except TongbuError as error:
        print(error, file=sys.stderr)
        return 1


def _check() -> int:
    found = [*released.check(), *dictionary.check(Catalog.load())]
    for error in found:
        print(error, file=sys.stderr)
    return 1 if found else 0


def _release() -> int:
    names = released.release()
    print("\n".join(f"released {name}" for name in names) or "nothing new")
    return 0


def _dictionary() -> int:
    dictionary.FILE.write_text(dictionary.render(Catalog.load()), encoding="utf-8")
    print(f"wrote {dictionary.FILE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
