"""Programs of what people do through two processes while their devices come and go."""

from collections.abc import Sequence
from random import Random

import trio
from attrs import frozen
from hypothesis import strategies as st

from messaging_core.ports import Storage
from messaging_core.testing.memory_bus import Faults
from tests.patience import PATIENCE
from tests.runtime.devices import Account, Device, Place, processes, register

PEOPLE = 4
DEVICES = 6
"""Two people have two devices, one of which opens no chat."""


@frozen
class Step:
    """One thing that happens; its numbers select what it happens to, modulo how many there are."""

    what: str
    process: int = 0
    actor: int = 0
    other: int = 0
    chat: int = 0
    message: int = 0


MARKS = ("unread_count", "read_up_to", "others_read_up_to")

ACTS = (
    *("send", "send", "send", "edit", "erase", "group", "direct", "rename", "history", "add", "add_all"),
    *("remove", "leave", "promote", "demote", "delete_group", "read", "read", "read"),
)
MOVES = ("connect", "disconnect", "wait")

steps = st.builds(
    Step,
    st.sampled_from(ACTS + MOVES * 3),
    st.integers(0, 1),
    st.integers(0, PEOPLE - 1),
    st.integers(0, DEVICES - 1),
    st.integers(0, 3),
    st.integers(0, 7),
)


class Stage:
    """The people, their devices, and what they have created."""

    def __init__(self, places: Sequence[Place], random: Random, waits: Sequence[float]) -> None:
        self.places = places
        self.people: list[Account] = []
        self.devices: list[Device] = []
        self.chats: list[int] = []
        self.messages: list[int] = []
        self._random = random
        self._waits = waits

    async def begin(self) -> None:
        for number in range(PEOPLE):
            self.people.append(await register(self.places[0], f"person{number}"))
        for number in range(DEVICES):
            account = self.people[number % PEOPLE]
            self.devices.append(Device(account, opens_chats=number != DEVICES - 1))
        await self.play(Step("group", actor=0, other=1))
        await self.play(Step("direct", actor=0, other=1))

    def request(self, step: Step) -> tuple[str, str, object]:
        """The request of an act."""
        chat = self.chats[step.chat % len(self.chats)] if self.chats else 0
        message = self.messages[-1 - step.message % len(self.messages)] if self.messages else 0
        other = self.people[step.other % len(self.people)].user_id
        members = f"/chats/{chat}/members"
        everybody = [each.user_id for each in self.people]
        group = f"/chats/{chat}"
        history = "all" if step.message % 2 else "joined"
        higher = "owner" if step.message % 2 else "admin"
        requests: dict[str, tuple[str, str, object]] = {
            "send": ("POST", "/messages", {"chat_id": chat, "type": "text", "content": f"#{step.message}"}),
            "read": ("POST", f"/chats/{chat}/read", {"message_id": message} if step.message % 2 else None),
            "edit": ("PATCH", f"/messages/{message}", {"content": f"edited {step.chat}"}),
            "erase": ("DELETE", f"/messages/{message}", None),
            "group": ("POST", "/chats", {"title": "A group", "member_ids": [other], "history": history}),
            "direct": ("POST", "/chats/direct", {"user_id": other}),
            "rename": ("PATCH", group, {"title": f"Title {step.message}"}),
            "history": ("PATCH", group, {"history": history}),
            "add": ("POST", members, {"user_id": other}),
            "add_all": ("POST", members, {"user_ids": everybody[step.other % PEOPLE :][:PEOPLE]}),
            "remove": ("DELETE", f"{members}/{other}", None),
            "leave": ("DELETE", f"{members}/{self.people[step.actor % len(self.people)].user_id}", None),
            "promote": ("PATCH", f"{members}/{other}", {"role": higher}),
            "demote": ("PATCH", f"{members}/{other}", {"role": "member"}),
            "delete_group": ("DELETE", group, None),
        }
        return requests[step.what]

    async def play(self, step: Step) -> None:
        place = self.places[step.process]
        device = self.devices[step.other % len(self.devices)]
        match step.what:
            case "connect":
                if not device.is_connected:
                    await device.connect(place)
            case "disconnect":
                await device.disconnect()
            case "wait":
                await trio.sleep(self._random.choice(self._waits))
            case _:
                await self.act(step)

    async def act(self, step: Step) -> None:
        """Send the request of an act, which may be refused."""
        method, path, body = self.request(step)
        account = self.people[step.actor % len(self.people)]
        status, response = await self.places[step.process].request(method, path, body, account=account)
        assert status < 500, response
        if status in (200, 201) and path in ("/messages", "/chats", "/chats/direct"):
            known = self.messages if path == "/messages" else self.chats
            if response["id"] not in known:
                known.append(response["id"])

    async def settle(self, within: float, *, is_lossy: bool) -> None:
        """Connect every device, and wait until each shows what a fresh fetch shows.

        A lost signal loses what is ephemeral, read marks too; these are true again after the next connection.
        """
        for number, device in enumerate(self.devices):
            if not device.is_connected:
                await device.connect(self.places[number % 2])
        if is_lossy:
            for device in self.devices:
                await device.converges(self.places[0], within, but=MARKS)
            for number, device in enumerate(self.devices):
                await device.disconnect()
                await device.connect(self.places[number % 2])
        for device in self.devices:
            await device.converges(self.places[0], within)

    @property
    def names(self) -> set[str]:
        """The names of all frames that were received."""
        return set().union(*(device.names for device in self.devices))


async def play(
    storages: Sequence[Storage],
    program: Sequence[Step],
    random: Random,
    faults: Faults | None = None,
    *,
    waits: Sequence[float] = (0.0, 0.01),
    within: float = PATIENCE,
) -> set[str]:
    """Play a program on two processes to its end; the names of the frames that devices received.

    `waits` are the seconds of a step that waits, and every device must show what is true `within` so many
    after the last step.
    """
    async with processes(storages, random, faults) as both:
        stage = Stage(both, random, waits)
        await stage.begin()
        for step in program:
            await stage.play(step)
        await stage.settle(within, is_lossy=faults is not None and faults.loss > 0)
        return stage.names


def some_program(random: Random, length: int) -> list[Step]:
    """A program of so many steps, by a seed instead of Hypothesis."""
    return [
        Step(
            random.choice(ACTS + MOVES * 3),
            random.randrange(2),
            random.randrange(PEOPLE),
            random.randrange(DEVICES),
            random.randrange(4),
            random.randrange(8),
        )
        for _ in range(length)
    ]


EVERY_KIND = (
    Step("connect", 0, other=0),
    Step("connect", 1, other=1),
    Step("connect", 0, other=2),
    *[Step("wait")] * 10,  # as long as a resumption takes, several times
    Step("send", actor=0),
    Step("read", actor=1),
    *[
        Step(what, actor=0, other=2)
        for what in ("send", "edit", "erase", "rename", "add", "promote", "remove")
    ],
    *[Step("wait")] * 10,
    Step("disconnect", other=0),
    *[Step("send", message=number) for number in range(9)],
    Step("connect", other=0),
    *[Step("wait")] * 10,
    Step("delete_group", actor=0),
)
"""A program in which a device receives every durable event of the table, and a chat anew."""
