"""The memory of connections is bounded, and the connection with the most is shed."""

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from adapters.listener.ledger import MemoryLedger

BOUND, BOUND_OF_ONE = 100, 60


@define
class RecordedLedger:
    """A ledger of named holders, and those that it has shed."""

    busy: set[str] = field(factory=set)
    """Holders that cannot be shed."""
    was_shed: list[str] = field(factory=list)
    totals: list[int] = field(factory=list)
    ledger: MemoryLedger[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = MemoryLedger(BOUND, BOUND_OF_ONE, {"proxy"}, self.shed, self.totals.append)

    def shed(self, holder: str) -> bool:
        self.was_shed += [] if holder in self.busy else [holder]
        return holder not in self.busy


async def test_beyond_the_bound_the_largest_holder_is_shed() -> None:
    """Not the last one, whose bytes exceeded the bound."""
    recorded = RecordedLedger()
    recorded.ledger.record("large", "a", 50)
    recorded.ledger.record("middle", "b", 45)
    recorded.ledger.record("small", "c", 6)
    assert recorded.was_shed == ["large"]
    assert recorded.ledger.total == 51


async def test_an_address_with_many_small_holders_is_the_heaviest() -> None:
    """They do not displace one larger holder of another address; among equals the oldest is shed."""
    recorded = RecordedLedger()
    recorded.ledger.record("stranger", "b", 40)
    for number in range(6):
        recorded.ledger.record(f"crowd {number}", "a", 10)
    recorded.ledger.record("newcomer", "c", 1)
    assert recorded.was_shed == ["crowd 0"]


async def test_an_address_has_a_bound_of_its_own() -> None:
    recorded = RecordedLedger()
    recorded.ledger.record("one", "a", 40)
    recorded.ledger.record("two", "a", 21)
    assert recorded.was_shed == ["one"]
    assert recorded.ledger.share("a") == 21


async def test_the_only_holder_may_exceed_the_bound_of_its_address() -> None:
    assert RecordedLedger().ledger.fits("a", BOUND_OF_ONE + 1)


async def test_holders_of_an_uncounted_address_count_separately() -> None:
    """Behind a proxy on this machine all clients have its address."""
    recorded = RecordedLedger()
    recorded.ledger.record("one", "proxy", 45)
    recorded.ledger.record("two", "proxy", 40)
    assert recorded.was_shed == []
    recorded.ledger.record("three", "proxy", 20)
    assert recorded.was_shed == ["one"]


async def test_a_holder_that_cannot_be_shed_is_skipped() -> None:
    recorded = RecordedLedger(busy={"large"})
    recorded.ledger.record("large", "a", 60)
    recorded.ledger.record("middle", "b", 30)
    recorded.ledger.record("small", "c", 20)
    assert recorded.was_shed == ["middle"]
    recorded.busy = {"large", "small", "middle"}
    recorded.ledger.record("middle", "b", 30)
    assert recorded.ledger.total == 110


async def test_only_a_holder_of_a_heavier_address_is_displaced() -> None:
    """Its address must hold more than the newcomer's would, and the holder must have had its time."""
    recorded = RecordedLedger()
    recorded.ledger.record("large", "a", 50)
    assert not recorded.ledger.displace("b", 49, age=0.1)
    assert not recorded.ledger.displace("b", 50, age=0.0)
    assert not recorded.ledger.displace("a", 1, age=0.0)
    assert recorded.ledger.displace("b", 49, age=0.0)
    assert recorded.was_shed == ["large"]


HOLDERS = st.tuples(st.sampled_from("pqrstu"), st.sampled_from(["a", "b", "proxy"]), st.integers(0, 70))


@given(st.lists(HOLDERS, max_size=40))
async def test_the_total_is_the_sum_of_the_holders(steps: list[tuple[str, str, int]]) -> None:
    """And within the bounds, since each holder can be shed."""
    recorded = RecordedLedger()
    held: dict[str, tuple[str, int]] = {}
    for holder, address, size in steps:
        before = len(recorded.was_shed)
        recorded.ledger.record(holder, held.get(holder, (address, 0))[0], size)
        held[holder] = (held.get(holder, (address, 0))[0], size)
        for gone in recorded.was_shed[before:]:
            del held[gone]
        held = {name: one for name, one in held.items() if one[1]}
        assert recorded.ledger.total == sum(size for _, size in held.values()) <= BOUND
        for counted in ("a", "b"):
            share = sum(size for address, size in held.values() if address == counted)
            assert recorded.ledger.share(counted) == share <= BOUND_OF_ONE
    assert recorded.totals[-1:] in ([], [recorded.ledger.total])
