"""Log lines: one an event, readable back, and nothing secret in them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet import logs
from ovsnet.model import PodRef


@pytest.fixture
def lines():
    """Configures logging to a buffer; calling the value yields the lines written so far."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    buffer = io.StringIO()

    def configure(form=logs.Format.LOGFMT, level=logs.Level.INFO):
        logs.configure(buffer, form, level)
        return lambda: buffer.getvalue().split("\n")[:-1]

    yield configure
    root.handlers[:] = before
    root.setLevel(level)


def record(event="e", level=logging.INFO, created=0.0, **fields):
    made = logging.LogRecord("part", level, "", 0, "%s", (event,), None)
    made.created = created
    made.ovsnet_fields = fields
    return made


def logfmt(made):
    return logs.LineFormatter(logs.Format.LOGFMT).format(made)


def test_a_line_has_time_level_logger_event_and_its_fields():
    made = record("port refused", node="node-1", pod=PodRef("shop", "web"), count=3)
    assert logfmt(made) == (
        "time=1970-01-01T00:00:00.000Z level=info logger=part "
        'event="port refused" node=node-1 pod=shop/web count=3'
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0005, "1970-01-01T00:00:00.000Z"),
        (1700000000.1239, "2023-11-14T22:13:20.123Z"),
        (1709210096.999, "2024-02-29T12:34:56.999Z"),
    ],
)
def test_times_are_utc_with_milliseconds(seconds, text):
    assert f"time={text} " in logfmt(record(created=seconds))


@given(st.text(), st.dictionaries(st.from_regex(r"[a-z]{3,8}", fullmatch=True), st.text()))
def test_no_value_can_begin_another_line_or_field(event, fields):
    for form in logs.Format:
        line = logs.LineFormatter(form).format(record(event, **fields))
        assert line.isprintable()
    keys = ["time", "level", "logger", "event", *fields]
    assert [key.rstrip("_") for key, _ in parse_logfmt(logfmt(record(event, **fields)))] == keys


@given(st.text().filter(lambda text: "://" not in text))
def test_values_can_be_read_back(text):
    if logs._SECRET_VALUE.search(text):
        return
    parsed = dict(parse_logfmt(logfmt(record(text, value=text))))
    assert parsed["event"] == parsed["value"] == text
    as_json = json.loads(logs.LineFormatter(logs.Format.JSON).format(record(text, value=text)))
    assert as_json["event"] == as_json["value"] == text


def parse_logfmt(line):
    """Reads logfmt: an independent reader, for the tests alone."""
    pairs = []
    while line:
        key, _, line = line.partition("=")
        if line.startswith('"'):
            value, end = json.JSONDecoder().raw_decode(line)
        else:
            end = line.find(" ") if " " in line else len(line)
            value = line[:end]
        pairs.append((key, value))
        line = line[end + 1 :]
    return pairs


def test_json_keeps_numbers_truth_and_lists():
    made = record(count=2, seconds=0.5, ready=True, since=None, nodes=("a", "b"), kinds={"y", "x"})
    line = json.loads(logs.LineFormatter(logs.Format.JSON).format(made))
    assert line["count"] == 2
    assert line["seconds"] == 0.5
    assert line["ready"] is True
    assert line["since"] is None
    assert line["nodes"] == ["a", "b"]
    assert line["kinds"] == ["x", "y"]


@pytest.mark.parametrize(
    "fields",
    [
        {"token": "hunter2"},
        {"apiToken": "hunter2"},
        {"client_key_data": "hunter2"},
        {"headers": {"Authorization": "hunter2", "Accept": "x"}},
        {"error": ValueError("sent Authorization: Bearer hunter2 to it")},
        {"proxy": "http://user:hunter2@proxy:3128"},
        {"list": ["Bearer hunter2"]},
    ],
)
def test_credentials_are_not_written(fields):
    for form in logs.Format:
        line = logs.LineFormatter(form).format(record(**fields))
        assert "hunter2" not in line
        assert logs.HIDDEN in line


def test_an_exception_stays_on_one_line_and_names_its_type(lines):
    written = lines()
    try:
        raise LookupError("no\nsuch node")
    except LookupError:
        logs.get("x").exception("handler failed", node="n")
    (line,) = written()
    fields = dict(parse_logfmt(line))
    assert fields["error"] == "LookupError: no\nsuch node"
    assert fields["trace"].startswith("Traceback")
    assert fields["level"] == "error"


def test_bound_fields_come_first_and_a_later_one_wins(lines):
    written = lines()
    log = logs.get("x").bind(node="a", part="p")
    log.info("e", node="b")
    log.info("f")
    assert [line.partition("event=")[2] for line in written()] == [
        "e node=b part=p",
        "f node=a part=p",
    ]


def test_a_field_cannot_hide_the_line_s_own(lines):
    written = lines()
    logs.get("x").info("e", level="debug", time=1, logger="y")
    (line,) = written()
    assert " level=info logger=x event=e level_=debug time_=1 logger_=y" in line


def test_levels_and_other_libraries(lines):
    written = lines(level=logs.Level.INFO)
    logs.get("x").debug("not")
    logs.get("x").info("yes")
    logging.getLogger("library").info("not %s", "either")
    logging.getLogger("library").warning("careful %d%%", 7)
    assert [dict(parse_logfmt(line))["event"] for line in written()] == ["yes", "careful 7%"]


def test_debug_shows_other_libraries_too(lines):
    written = lines(level=logs.Level.DEBUG)
    logging.getLogger("library").info("shown")
    assert len(written()) == 1


def test_configuring_twice_writes_once(lines):
    lines()
    written = lines(logs.Format.JSON)
    logs.get("x").info("e")
    (line,) = written()
    assert json.loads(line)["event"] == "e"


def test_level_names():
    assert logs.Level.named("Warning") is logs.Level.WARNING
    with pytest.raises(ValueError, match="'loud': expected one of debug, info, warning, error"):
        logs.Level.named("loud")


def test_it_stands_alone():
    """The agent imports it at start: nothing but the standard library may come with it."""
    code = (
        "import sys; before = set(sys.modules); import ovsnet.logs;"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before};"
        "print(new - sys.stdlib_module_names)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"ovsnet"} >= {m for m in eval(out.stdout) if not m.startswith("_")}
