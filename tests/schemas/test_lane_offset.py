"""Places in a lane log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.lane_offset import MAX_EPOCH, MAX_OFFSET, pack, unpack

EPOCHS = st.integers(1, MAX_EPOCH)
OFFSETS = st.integers(0, MAX_OFFSET)


@given(EPOCHS, OFFSETS)
def test_what_is_packed_is_unpacked_and_fits_an_avro_long(epoch: int, offset: int) -> None:
    packed = pack(epoch, offset)

    assert unpack(packed) == (epoch, offset)
    assert 0 < packed < 1 << 63


@given(st.tuples(EPOCHS, OFFSETS), st.tuples(EPOCHS, OFFSETS))
def test_versions_grow_as_epoch_and_offset_do(one: tuple[int, int], other: tuple[int, int]) -> None:
    assert (pack(*one) < pack(*other)) == (one < other)


@pytest.mark.parametrize(
    ("epoch", "offset"), [(0, 0), (-1, 0), (MAX_EPOCH + 1, 0), (1, -1), (1, MAX_OFFSET + 1)]
)
def test_what_is_out_of_range_is_refused(epoch: int, offset: int) -> None:
    with pytest.raises(ValueError, match="is not in"):
        pack(epoch, offset)
