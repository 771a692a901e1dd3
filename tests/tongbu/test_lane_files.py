"""Recordings of lane logs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import TongbuError
from tongbu.lane_files import Recorded, from_line, read, to_line, write

RECORDS = st.builds(
    Recorded,
    topic=st.sampled_from(["cdc.erp", "cdc.oa"]),
    partition=st.just(0),
    offset=st.integers(0, 2**48),
    timestamp=st.integers(0, 2**42),
    key=st.none() | st.binary() | st.text().map(str.encode),
    value=st.none() | st.binary() | st.text().map(str.encode),
    headers=st.lists(st.tuples(st.text(), st.none() | st.binary())).map(tuple),
)


@given(RECORDS)
def test_a_line_brings_back_the_record_byte_for_byte(record: Recorded) -> None:
    line = to_line(record)
    assert b"\n" not in line
    assert from_line(line) == record


def records(count: int) -> list[Recorded]:
    return [
        Recorded(
            topic="cdc.erp",
            partition=0,
            offset=offset,
            timestamp=1_700_000_000_000 + offset,
            key=b"k",
            value="订单".encode() if offset % 2 else b"\xff",
        )
        for offset in range(count)
    ]


def test_a_file_brings_back_all_records_in_order(tmp_path: Path) -> None:
    file = tmp_path / "log.zst"
    assert write(file, records(5000)) == 5000
    assert list(read(file)) == records(5000)


def test_a_recording_that_fails_leaves_the_earlier_file_and_no_rest(tmp_path: Path) -> None:
    file = tmp_path / "log.zst"
    write(file, records(1))

    def broken() -> object:
        yield records(1)[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(file, broken())

    assert list(read(file)) == records(1)
    assert [each.name for each in tmp_path.iterdir()] == ["log.zst"]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"\x28\xb5\x2f\xfd\x00"])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "log.zst"
    file.write_bytes(content)
    with pytest.raises(TongbuError, match="recording"):
        list(read(file))


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    file = tmp_path / "log.zst"
    write(file, records(5000))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(TongbuError, match="recording"):
        list(read(file))


def test_two_recordings_put_together_are_refused_for_one_would_be_left_out(tmp_path: Path) -> None:
    file = tmp_path / "log.zst"
    write(file, records(3))
    file.write_bytes(2 * file.read_bytes())
    with pytest.raises(TongbuError, match="from line 4 on: it goes on after its end"):
        list(read(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TongbuError, match="No such file"):
        list(read(tmp_path / "missing.zst"))


def test_a_recording_that_can_not_be_written_says_where(tmp_path: Path) -> None:
    with pytest.raises(TongbuError, match=r"nowhere/log\.zst: No such file or directory"):
        write(tmp_path / "nowhere/log.zst", records(1))


def test_what_is_no_file_is_not_replaced_by_a_recording(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for there in (tmp_path, pipe):
        with pytest.raises(TongbuError, match="not a file"):
            write(there, records(1))
    assert pipe.is_fifo()
