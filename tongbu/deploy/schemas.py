"""Schemas: registered here and nowhere else. Producers only use the ids."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from schemas.catalog import RecordSchema
from tongbu.deploy.deployment import Change, Deployment

#: Inside a major every version can read every other.
COMPATIBILITY = "FULL_TRANSITIVE"


def plan(deployment: Deployment) -> Iterator[Change]:
    """Give the schemas that are not registered yet."""
    for schema in deployment.catalog.all():
        if deployment.registry.lookup(schema.subject, schema.schema) is None:
            detail = f"version {schema.major}.{schema.minor}"
            yield Change(
                "schema",
                schema.subject,
                "register",
                detail,
                partial(_register, deployment, schema),
            )


def _register(deployment: Deployment, schema: RecordSchema) -> None:
    # The level first: a subject that has the schema is not looked at again, whatever ended the command before.
    deployment.registry.set_compatibility(schema.subject, COMPATIBILITY)
    deployment.registry.register(schema.subject, schema.schema)
