from __future__ import annotations

from pathlib import Path

from tongbu.stack.obituaries import _reason, deaths, last_words


def test_last_words_are_the_head_of_a_stack_trace_not_its_inside(tmp_path: Path) -> None:
    (tmp_path / "kafka.log").write_text("started\nException: disk full\n\tat a.b.C\n\tat d.e.F\n")

    assert last_words(tmp_path, "kafka") == "Exception: disk full"


def test_what_librdkafka_says_of_connections_hides_no_last_words(tmp_path: Path) -> None:
    log = tmp_path / "processor.log"
    log.write_text("ended by an error\n%3|FAIL|rdkafka: Connection refused\n")
    assert last_words(tmp_path, "processor") == "ended by an error"

    log.write_text("%3|FAIL|rdkafka: Connection refused\n")
    assert last_words(tmp_path, "processor") == "%3|FAIL|rdkafka: Connection refused"


def test_a_service_that_never_spoke_has_no_last_words(tmp_path: Path) -> None:
    assert last_words(tmp_path, "kafka") == ""


def test_the_reason_is_the_last_end_of_that_service(tmp_path: Path) -> None:
    (tmp_path / "supervisord.log").write_text(
        "WARN exited: kafka (exit status 1; not expected)\n"
        "WARN exited: kafka (terminated by SIGKILL; not expected)\n"
        "WARN exited: connect (exit status 2; not expected)\n"
    )

    assert _reason(tmp_path, "kafka") == "terminated by SIGKILL"


def test_without_a_book_nobody_has_died(tmp_path: Path) -> None:
    assert deaths(tmp_path) == []
