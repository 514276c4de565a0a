"""A play of one switch and the switchboard of a controller, for tests of sessions.

The switch is in memory (`fake_switch`), and what it says arrives when the test lets it.
"""

from fake_switch import FakeSwitch

from ovsnet.controller.notices import Admitted, Send
from ovsnet.controller.openflow import encode
from ovsnet.controller.openflow.groups import groups_for
from ovsnet.controller.openflow.protocol import BundleControl
from ovsnet.controller.states import Timing
from ovsnet.controller.switchboard import Switchboard
from ovsnet.flows.fields import Field
from ovsnet.flows.flow import Flow, Output, match, term
from ovsnet.flows.ledger import Delta
from ovsnet.flows.stamp import stamp_flow
from ovsnet.names import Table

NODE = "node-1"
OURS = 1 << 56
OFTEN = Timing(quiet=5, dead=20, answer=60, audit=3, counters=9999, retry=1, retry_most=8)
TIMING = Timing(quiet=5, dead=20, answer=60, audit=300, counters=9999, retry=1, retry_most=8)


def flow(number: int, port: int = 1) -> Flow:
    return Flow(Table.ROUTE, 10, match(term(Field.REG0, number)), (Output(port),), OURS | number)


class Wanted:
    """Desired flows, whose digest is that of a set of values."""

    def __init__(self, flows=()):
        self.flows = {f.key: f for f in flows}
        self.revision = 1

    @property
    def digest(self):
        return sum(map(encode.fingerprint, self.flows.values())) % (1 << 64) or 1

    def change(self, adds=(), deletes=()):
        gone = tuple(self.flows.pop(f.key) for f in deletes)
        self.flows.update((f.key, f) for f in adds)
        self.revision += 1
        return Delta(tuple(adds), gone, self.digest, self.revision)


def raw(flows, digest=None):
    """What a switch with these flows (and the stamp of this digest) holds."""
    switch = FakeSwitch()
    load(switch, flows)
    if digest is not None:
        load(switch, [stamp_flow(digest)])
    return switch.flows


def load(switch, flows):
    flows = tuple(flows)
    switch.receive(encode.filled_bundle(9, [*groups_for(flows), encode.flow_adds(flows)]))
    switch.receive(encode.bundle_control(BundleControl.COMMIT_REQUEST, 9))
    switch.answers.clear()
    switch.group_writes.clear()
    switch.writes = 0
    switch.commits.clear()


class Play:
    """A switchboard and one switch; what was said, and the time."""

    def __init__(self, wanted, switch=None, generation=1, timing=TIMING):
        self.wanted = wanted
        self.switch = switch or FakeSwitch(NODE)
        self.now = 100.0
        self.said = []
        self.board = Switchboard(generation, timing)
        self.carry_out(self.board.handle(self.switch.connected(), {NODE}, self.now))

    @property
    def session(self):
        found = self.board.session(NODE)
        assert found is not None
        return found

    def carry_out(self, outcomes):
        for outcome in outcomes:
            match outcome:
                case Send(connection, data):
                    if connection == self.switch.connection:
                        self.switch.receive(data)
                case Admitted():
                    self.said.append(outcome)
                    self.carry_out(self.board.desire(NODE, self.wanted, self.now))
                case _:
                    self.said.append(outcome)

    def feed(self, event):
        self.carry_out(self.board.handle(event, {NODE}, self.now))

    def answer(self):
        """The switch's next answer arrives."""
        self.feed(self.switch.answers.popleft())

    def settle(self):
        while self.switch.answers:
            self.answer()

    def wait(self, seconds):
        self.now += seconds
        self.carry_out(self.board.tick(self.now))

    def change(self, adds=(), deletes=()):
        delta = self.wanted.change(adds, deletes)
        self.carry_out(self.board.changed(NODE, delta, self.now))

    def heard(self, kind):
        return [n for n in self.said if isinstance(n, kind)]

    def assert_right(self):
        assert self.switch.content == raw(self.wanted.flows.values(), self.wanted.digest)


def settled(wanted, timing=TIMING):
    """A play whose switch has what it should have."""
    play = Play(wanted, timing=timing)
    play.settle()
    play.assert_right()
    play.said.clear()
    play.switch.writes = 0
    play.switch.commits.clear()
    return play
