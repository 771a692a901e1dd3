from collections.abc import Callable
from typing import Any

def compile_encoder(
    schema_id: int, schema: dict[str, Any]
) -> Callable[[dict[str, Any]], bytes]: ...
