"""What is compiled, because each record counts: Avro and the check of decimals by Cython, the processor's lane by mypyc. The rest is in pyproject.toml."""

from Cython.Build import cythonize
from mypyc.build import mypycify
from setuptools import setup

#: Plain Python, and type-checked: mypyc makes C of it as it stands. Structs of msgspec can't be among it.
LANE = [
    "schemas/lane_offset.py",
    "streams/contention.py",
    "streams/flight.py",
    "streams/held.py",
    "streams/in_force.py",
    "streams/lane.py",
    "streams/outputs.py",
    "streams/pipeline.py",
    "streams/spool.py",
    "streams/state.py",
    "streams/transactions.py",
    "streams/withheld.py",
    "streams/stages/aggregate.py",
    "streams/stages/convert.py",
    "streams/stages/decision_table.py",
    "streams/stages/decode.py",
    "streams/stages/drafts.py",
    "streams/stages/encode.py",
    "streams/stages/image.py",
    "streams/stages/map.py",
    "streams/stages/map_nodes.py",
    "streams/stages/publish.py",
    "streams/stages/rules.py",
    "streams/stages/source_types.py",
]

setup(
    ext_modules=[
        *cythonize(["schemas/*.pyx", "streams/stages/*.pyx"], quiet=True),
        *mypycify(LANE, group_name="tongbu"),
    ]
)
