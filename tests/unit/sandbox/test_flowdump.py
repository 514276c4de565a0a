from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovsnet.sandbox.demo import flowdump

DUMP = """OFPST_FLOW reply (OF1.5) (xid=0x2):
 cookie=0x1, duration=26.169s, table=classify, n_packets=15, n_bytes=1654, idle_age=0, \
priority=100,in_port="gw" actions=goto_table:"spoof_guard"
 cookie=0x1, duration=26.170s, table=classify, n_packets=12, n_bytes=736, idle_age=23, \
priority=0 actions=drop
 cookie=0x2, duration=1.5s, table="spoof_guard", n_packets=3, n_bytes=9, priority=9 actions=drop
 cookie=0x2, duration=1s, table="output", n_packets=0, n_bytes=0, priority=100,ip actions=drop
"""


def dump(*flows: tuple[str, float, int]) -> tuple[flowdump.Flow, ...]:
    return flowdump.parse(
        "\n".join(
            f" cookie=0x1, duration={age}s, table=1, n_packets={packets}, n_bytes=1, "
            f"priority=1,{match} actions=drop"
            for match, age, packets in flows
        )
    )


def test_what_a_line_says() -> None:
    flows = flowdump.parse(DUMP)
    assert [(f.table, f.duration, f.packets) for f in flows] == [
        ("classify", 26.169, 15), ("classify", 26.17, 12), ("spoof_guard", 1.5, 3), ("output", 1, 0)
    ]  # fmt: skip
    assert flows[0].identity == (
        'cookie=0x1, table=classify, priority=100,in_port="gw" actions=goto_table:"spoof_guard"'
    )
    assert flowdump.parse("") == ()


def test_flows_that_only_aged_are_untouched() -> None:
    found = flowdump.compare(dump(("a", 1, 5), ("b", 2, 0)), dump(("b", 7, 3), ("a", 6, 5)), 5)
    assert found.untouched
    assert found.kept == 2


def test_every_kind_of_touch_is_seen() -> None:
    before = dump(("a", 10, 5))
    for after, words in (
        (dump(("a", 3, 9)), "1 rewritten"),  # younger than the time between
        (dump(("a", 15, 4)), "1 rewritten"),  # its counter began anew
        (dump(("a", 15, 5), ("b", 1, 0)), "1 added"),
        (dump(), "1 removed"),
        (dump(("c", 15, 5)), "1 added, 1 removed"),
    ):
        found = flowdump.compare(before, after, 5)
        assert not found.untouched
        assert words in found.text


def test_no_flows_at_all_prove_nothing() -> None:
    assert not flowdump.compare((), (), 0).untouched


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(st.integers(0, 50), st.integers(0, 50))),
    st.sets(st.sampled_from("abcdef")),
)
def test_exactly_the_rewritten_are_named(
    flows: dict[str, tuple[int, int]], rewritten: set[str]
) -> None:
    before = dump(*((m, age, packets) for m, (age, packets) in flows.items()))
    after = dump(
        *((m, 0 if m in rewritten else age + 9, packets) for m, (age, packets) in flows.items())
    )
    found = flowdump.compare(before, after, 9)
    assert len(found.rewritten) == len(rewritten & set(flows))
    assert found.kept == len(set(flows) - rewritten)


def used(*flows: tuple[int, str, int]) -> tuple[flowdump.Flow, ...]:
    return flowdump.parse(
        "\n".join(
            f" cookie={owner}, duration=1s, table={table}, n_packets={packets}, actions=drop"
            for table, owner, packets in flows
        )
    )


def sampled(flows: tuple[flowdump.Flow, ...], count: int) -> list[tuple[str, str, int]]:
    return [(f.table, f.owner, f.packets) for f in flowdump.sample(flows, count)]


def test_a_sample_has_the_busiest_of_each_table() -> None:
    flows = used((0, "0xa", 1), (0, "0xa", 9), (1, "0xa", 0), (2, "0xa", 3))
    assert sampled(flows, 5) == [("0", "0xa", 9), ("2", "0xa", 3)]
    assert len(flowdump.sample(flows, 1)) == 1
    assert flowdump.sample((), 3) == ()


def test_a_sample_prefers_what_is_not_the_nodes_and_not_shown_yet() -> None:
    flows = used(
        (0, "0xa", 9), (1, "0xa", 9), (1, "0xb", 2), (2, "0xa", 9), (2, "0xb", 5), (2, "0xc", 1),
        (3, "0xa", 9),
    )  # fmt: skip
    assert sampled(flows, 2) == [("1", "0xb", 2), ("2", "0xc", 1)]
    assert sampled(flows, 3) == [("0", "0xa", 9), ("1", "0xb", 2), ("2", "0xc", 1)]
