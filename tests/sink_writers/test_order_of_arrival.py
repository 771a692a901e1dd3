"""Whatever is repeated, delayed or batched otherwise, the target ends as if each message had been applied once, in order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sink_writers.binding_tables import tables
from sink_writers.dialects.postgresql import sql_type
from sink_writers.messages import Message
from sink_writers.sink import Place, Position
from sink_writers.sinks.memory import MemorySink

PLACE = Place("b", "t", "id", 0)

change = st.tuples(st.sampled_from("abc"), st.sampled_from(["update", "delete"]), st.integers(0, 3))


def final_state(world, binding, batches: list[list[Message]]):
    sink = MemorySink(tables(binding, world.catalog, sql_type), world.decoder)
    at = sink.claim(PLACE)
    for batch in batches:
        to = Position(at.next_offset + 1, 0, at.epoch)
        sink.apply(PLACE, at, batch, to)
        at = to
    return sink.tables


@settings(max_examples=150, deadline=None)
@given(data=st.data(), changes=st.lists(st.lists(change, min_size=1, max_size=3), max_size=8))
def test_any_order_and_any_repeats_end_in_the_same_state(world, binding, data, changes):
    messages = [
        world.message(
            *(
                world.order(key, version, operation, dict.fromkeys(range(lines), f"p{version}"))
                for key, operation, lines in each
            )
        )
        for version, each in enumerate(changes, start=1)
    ]
    arrivals = data.draw(
        st.permutations(
            messages
            + data.draw(
                st.lists(st.sampled_from(messages), max_size=5) if messages else st.just([])
            )
        )
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrivals)), max_size=4)))
    batches = [
        arrivals[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(arrivals)], strict=True)
    ]

    assert final_state(world, binding, batches) == final_state(
        world, binding, [[each] for each in messages]
    )
