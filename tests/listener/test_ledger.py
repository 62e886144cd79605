"""What connections keep is bounded, and it is the one with the most that gives way."""

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from adapters.listener.ledger import MemoryLedger

BOUND, BOUND_OF_ONE = 100, 60


@define
class Kept:
    """A ledger of named holders on a clock that stands still, and who gave way."""

    busy: set[str] = field(factory=set)
    """Those who cannot give way."""
    gone: list[str] = field(factory=list)
    totals: list[int] = field(factory=list)
    ledger: MemoryLedger[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ledger = MemoryLedger(BOUND, BOUND_OF_ONE, {"proxy"}, self.shed, self.totals.append)

    def shed(self, holder: str) -> bool:
        self.gone += [] if holder in self.busy else [holder]
        return holder not in self.busy


async def test_beyond_the_bound_the_one_with_the_most_gives_way() -> None:
    """Not the one that comes last, whose bytes were one too many."""
    kept = Kept()
    kept.ledger.record("large", "a", 50)
    kept.ledger.record("middle", "b", 45)
    kept.ledger.record("small", "c", 6)
    assert kept.gone == ["large"]
    assert kept.ledger.total == 51


async def test_an_address_with_many_small_ones_is_the_heaviest() -> None:
    """Its crowd does not drive out a single larger one of another; of equal ones the oldest goes."""
    kept = Kept()
    kept.ledger.record("stranger", "b", 40)
    for number in range(6):
        kept.ledger.record(f"crowd {number}", "a", 10)
    kept.ledger.record("newcomer", "c", 1)
    assert kept.gone == ["crowd 0"]


async def test_an_address_has_a_bound_of_its_own() -> None:
    kept = Kept()
    kept.ledger.record("one", "a", 40)
    kept.ledger.record("two", "a", 21)
    assert kept.gone == ["one"]
    assert kept.ledger.share("a") == 21


async def test_what_is_alone_may_be_larger_than_its_address_may() -> None:
    assert Kept().ledger.fits("a", BOUND_OF_ONE + 1)


async def test_of_an_uncounted_address_each_counts_for_itself() -> None:
    """Behind a proxy on this machine everybody has its address."""
    kept = Kept()
    kept.ledger.record("one", "proxy", 45)
    kept.ledger.record("two", "proxy", 40)
    assert kept.gone == []
    kept.ledger.record("three", "proxy", 20)
    assert kept.gone == ["one"]


async def test_who_cannot_give_way_is_passed_over() -> None:
    kept = Kept(busy={"large"})
    kept.ledger.record("large", "a", 60)
    kept.ledger.record("middle", "b", 30)
    kept.ledger.record("small", "c", 20)
    assert kept.gone == ["middle"]
    kept.busy = {"large", "small", "middle"}
    kept.ledger.record("middle", "b", 30)
    assert kept.ledger.total == 110


async def test_only_who_keeps_more_is_displaced() -> None:
    """By an address that will keep less than the other does, and not before the other has had its time."""
    kept = Kept()
    kept.ledger.record("large", "a", 50)
    assert not kept.ledger.displace("b", 49, age=0.1)
    assert not kept.ledger.displace("b", 50, age=0.0)
    assert not kept.ledger.displace("a", 1, age=0.0)
    assert kept.ledger.displace("b", 49, age=0.0)
    assert kept.gone == ["large"]


HOLDERS = st.tuples(st.sampled_from("pqrstu"), st.sampled_from(["a", "b", "proxy"]), st.integers(0, 70))


@given(st.lists(HOLDERS, max_size=40))
async def test_the_books_balance(steps: list[tuple[str, str, int]]) -> None:
    """What is counted is what is kept, and within the bounds whenever somebody can give way."""
    kept = Kept()
    held: dict[str, tuple[str, int]] = {}
    for holder, address, size in steps:
        before = len(kept.gone)
        kept.ledger.record(holder, held.get(holder, (address, 0))[0], size)
        held[holder] = (held.get(holder, (address, 0))[0], size)
        for gone in kept.gone[before:]:
            del held[gone]
        held = {name: one for name, one in held.items() if one[1]}
        assert kept.ledger.total == sum(size for _, size in held.values()) <= BOUND
        for counted in ("a", "b"):
            share = sum(size for address, size in held.values() if address == counted)
            assert kept.ledger.share(counted) == share <= BOUND_OF_ONE
    assert kept.totals[-1:] in ([], [kept.ledger.total])
