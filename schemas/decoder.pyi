from collections.abc import Callable
from typing import Any

def compile_decoder(schema: dict[str, Any]) -> Callable[[bytes, int], dict[str, Any]]: ...
