"""
Python functions made from declarations: straight code instead of a tree of closures, where each record counts.

What a declaration says becomes lines here, never text of its own: values and functions are referred to by names that
`name` gives, and texts stand in the source as their `repr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class SourceCode:
    """The source of one function, line by line."""

    def __init__(self, function: str, *parameters: str) -> None:
        self._function = function
        self._lines = [f"def {function}({', '.join(parameters)}):"]
        self._depth = 1
        self._variables = 0
        self._values: dict[str, Any] = {}
        self._names: dict[int, str] = {}

    def line(self, text: str) -> None:
        """Add a statement at the present depth."""
        self._lines.append("    " * self._depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Add a compound statement; what is added inside `with` is its body."""
        self.line(head)
        self._depth += 1
        yield
        self._depth -= 1

    def variable(self) -> str:
        """Give a variable's name that is used for nothing else."""
        self._variables += 1
        return f"v{self._variables}"

    def name(self, value: Any) -> str:
        """Give the name by which the function refers to a value."""
        known = self._names.get(id(value))
        if known is None:
            known = self._names[id(value)] = f"k{len(self._values)}"
            self._values[known] = value
        return known

    def function(self) -> Callable[..., Any]:
        """Compile it."""
        # Nothing of it is text from outside: names are ours, values are bound, texts are quoted by repr.
        exec(compile("\n".join(self._lines), f"<{self._function}>", "exec"), self._values)  # noqa: S102
        made: Callable[..., Any] = self._values[self._function]
        return made
