// The reducer: in every order of arrival, each message is shown once, in order of id, in its latest form.

import assert from "node:assert/strict";
import { test } from "node:test";

import { chatList, initial, reduce, Store, timeline } from "../../adapters/quart_app/client/store.js";

const ME = user(1, "Alice");
const BOB = user(2, "Bob");
const CHAT = {
  id: 7,
  title: "Direct Message",
  is_group: false,
  created_at: "2024-11-04T14:00:00Z",
  participants: [ME, BOB],
  participants_count: 2,
};
const OTHER = { ...CHAT, id: 8, title: "Others", is_group: true };

function user(id, display_name) {
  return {
    id,
    email: `${id}@test.com`,
    display_name,
    tag: display_name.toLowerCase(),
    avatar_url: null,
    created_at: "2024-11-04T14:00:00Z",
  };
}

function message(id, content = `m${id}`, more = {}) {
  return {
    id,
    chat_id: 7,
    author_id: 2,
    type: "text",
    content,
    payload: null,
    ts: "2024-11-04T14:30:00Z",
    reply_to_id: null,
    edited_at: null,
    deleted_at: null,
    ...more,
  };
}

/** A message as in an event: seven keys. */
function eventData(id, content, more = {}) {
  const { reply_to_id, edited_at, deleted_at, ...plain } = message(id, content, more);
  return plain;
}

const created = (id, content, more) => ({
  type: "event",
  event: "message.created",
  data: eventData(id, content, more),
});
const updated = (id, content, more) => ({
  type: "event",
  event: "message.updated",
  data: eventData(id, content, more),
});
const status = (status) => ({ type: "connection/changed", status });

function page(state, kind, ids, more = {}) {
  const messages = ids
    .toSorted((a, b) => b - a)
    .map((each) => (typeof each === "number" ? message(each) : each));
  return {
    type: "page/loaded",
    chat_id: 7,
    kind,
    messages,
    has_more: false,
    since: state.clock,
    epoch: state.epoch,
    ...more,
  };
}

function after(...actions) {
  let state = [
    { type: "session/started", me: ME },
    status("open"),
    { type: "chats/loaded", chats: [CHAT, OTHER], since: 0 },
  ].reduce(reduce, initial);
  for (const action of actions) state = reduce(state, typeof action === "function" ? action(state) : action);
  return state;
}

const latest =
  (...ids) =>
  (state) =>
    page(state, "latest", ids);
const shown = (state) => timeline(state, 7).messages.map(({ content }) => content);
const item = (key, content, more = {}) => ({
  type: "outbox/added",
  item: { key, chat_id: 7, content, state: "pending", error: null, seen_as: null, ...more },
});

test("a message that arrives twice is shown once, and messages are sorted by id", () => {
  assert.deepEqual(shown(after(latest(3, 1), created(3, "m3"), created(2, "m2"), created(2, "m2"))), [
    "m1",
    "m2",
    "m3",
  ]);
});

test("a reduction does not modify the previous state", () => {
  const before = after(latest(1));
  const copy = structuredClone(before);
  reduce(before, created(2, "m2"));
  reduce(before, updated(1, "changed"));
  reduce(before, status("waiting"));
  assert.deepEqual(before, copy);
});

test("a response to a request from before an event does not undo the event", () => {
  const before = after(latest(1));
  const edited = reduce(before, updated(1, "edited"));
  assert.deepEqual(shown(reduce(edited, page(before, "refresh", [1]))), ["edited"]);
  assert.deepEqual(shown(reduce(edited, page(edited, "refresh", [message(1, "newer still")]))), [
    "newer still",
  ]);
});

test("a late message.created does not undo an edit", () => {
  assert.deepEqual(
    shown(
      after(
        (state) => page(state, "latest", [message(1, "edited", { edited_at: "2024-11-04T15:00:00Z" })]),
        created(1, "first words"),
      ),
    ),
    ["edited"],
  );
});

test("an edited message is marked, whether the edit came as an event or in the history", () => {
  const [first, second] = timeline(
    after(
      (state) => page(state, "latest", [message(1), message(2, "b", { edited_at: "2024-11-04T15:00:00Z" })]),
      updated(1, "a"),
    ),
    7,
  ).messages;
  assert.equal(first.edited, true);
  assert.equal(second.edited, true);
});

test("a deletion in an event is no edit", () => {
  const [gone] = timeline(after(latest(1), updated(1, null, { payload: { deleted: true } })), 7).messages;
  assert.equal(gone.edited, false);
});

test("an unknown event changes nothing", () => {
  const state = after(latest(1));
  assert.equal(reduce(state, { type: "event", event: "reaction.added", data: { message_id: 1 } }), state);
});

test("a log is shown once its latest page has arrived, without missing messages", () => {
  let state = after(
    { type: "preview/loaded", chat_id: 7, messages: [message(5)], since: 0, epoch: 1 },
    created(60, "m60"),
  );
  assert.deepEqual(shown(state), []);
  assert.equal(chatList(state)[0].last.id, 60);
  state = reduce(state, page(state, "latest", [58, 59], { has_more: true }));
  assert.deepEqual(shown(state), ["m58", "m59", "m60"]);
  assert.equal(timeline(state, 7).hasOlder, true);
});

test("older pages are added in front, with whether there are more", () => {
  const state = after(
    (before) => page(before, "latest", [5, 6], { has_more: true }),
    (before) => page(before, "older", [3, 4]),
  );
  assert.deepEqual(shown(state), ["m3", "m4", "m5", "m6"]);
  assert.equal(timeline(state, 7).hasOlder, false);
});

test("a lost connection leaves a gap after the newest known message", () => {
  const gap = (state) => state.logs[7].gapAfter;
  let state = after(latest(4));
  assert.equal(gap(state), null);
  state = reduce(state, status("waiting"));
  state = reduce(state, status("connecting"));
  state = reduce(state, status("open"));
  state = reduce(state, created(9, "m9"));
  state = reduce(state, status("waiting"));
  assert.equal(gap(state), 4);
  state = reduce(state, status("open"));
  assert.equal(
    gap(reduce(state, { type: "gap/closed", chat_id: 7, epoch: state.epoch - 1 })),
    4,
    "closed by a response from an earlier connection",
  );
  assert.equal(gap(reduce(state, { type: "gap/closed", chat_id: 7, epoch: state.epoch })), null);
});

test("a page that was requested without a connection, or during an earlier one, leaves a gap", () => {
  const early = page({ clock: 0, epoch: 0 }, "latest", [4]);
  assert.equal(after(early).logs[7].gapAfter, 4);
  assert.equal(
    reduce(after(status("waiting")), page({ clock: 0, epoch: 1 }, "latest", [4])).logs[7].gapAfter,
    4,
  );
});

test("a pending message is last until its response, and keeps its key afterwards", () => {
  let state = after(latest(1), item("k", "hello"));
  assert.deepEqual(
    timeline(state, 7).pending.map(({ key }) => key),
    ["k"],
  );
  state = reduce(state, {
    type: "outbox/sent",
    key: "k",
    message: message(2, "hello", { author_id: 1 }),
    since: state.clock,
  });
  assert.deepEqual(shown(state), ["m1", "hello"]);
  assert.equal(timeline(state, 7).messages[1].key, "k");
  assert.deepEqual(timeline(state, 7).pending, []);
  assert.deepEqual(shown(reduce(state, created(2, "hello", { author_id: 1 }))), ["m1", "hello"]);
});

test("an own event before its response replaces the pending message", () => {
  let state = after(latest(1), item("k", "hello"), created(2, "hello", { author_id: 1 }));
  assert.deepEqual(timeline(state, 7).pending, []);
  assert.equal(timeline(state, 7).messages[1].key, "k");
  state = reduce(state, {
    type: "outbox/sent",
    key: "k",
    message: message(2, "hello", { author_id: 1 }),
    since: 0,
  });
  assert.deepEqual(shown(state), ["m1", "hello"]);
  assert.deepEqual(state.outbox, []);
});

test("two messages with the same text stay two, in either order of their responses", () => {
  let state = after(latest(1), item("a", "ha"), item("b", "ha"), created(2, "ha", { author_id: 1 }));
  assert.equal(timeline(state, 7).pending.length, 1);
  state = reduce(state, {
    type: "outbox/sent",
    key: "a",
    message: message(3, "ha", { author_id: 1 }),
    since: state.clock,
  });
  state = reduce(state, {
    type: "outbox/sent",
    key: "b",
    message: message(2, "ha", { author_id: 1 }),
    since: state.clock,
  });
  assert.deepEqual(shown(state), ["m1", "ha", "ha"]);
  assert.deepEqual(state.outbox, []);
  const keys = timeline(state, 7).messages.map((each) => each.key ?? each.id);
  assert.equal(new Set(keys).size, 3, "every item has its own key");
});

test("another author's event with the same text does not match a pending message", () => {
  assert.equal(timeline(after(latest(1), item("k", "hello"), created(2, "hello")), 7).pending.length, 1);
});

test("the latest activity is first, also after a response from before it", () => {
  const state = after(created(9, "x", { chat_id: 8 }));
  assert.deepEqual(state.order, [8, 7]);
  assert.deepEqual(reduce(state, { type: "chats/loaded", chats: [CHAT, OTHER], since: 0 }).order, [8, 7]);
  assert.deepEqual(
    reduce(state, { type: "chats/loaded", chats: [CHAT, OTHER], since: state.clock }).order,
    [7, 8],
  );
});

test("an unknown chat of an event is listed once it has been fetched", () => {
  const state = after(created(9, "x", { chat_id: 99 }));
  assert.deepEqual(
    chatList(state).map(({ chat }) => chat.id),
    [7, 8],
  );
  const known = reduce(state, { type: "chat/loaded", chat: { ...CHAT, id: 99 } });
  assert.deepEqual(
    chatList(known).map(({ chat }) => chat.id),
    [99, 7, 8],
  );
});

test("an unknown action is an error", () => {
  assert.throws(() => reduce(initial, { type: "chat/exploded" }), /no such action/);
});

test("listeners are called once for all changes of a turn, and not without a change", async () => {
  const store = new Store(after(latest(1)));
  const calls = [];
  store.subscribe((state) => calls.push(shown(state)));
  store.dispatch(created(2, "m2"));
  store.dispatch(created(3, "m3"));
  store.dispatch(status("open"));
  await Promise.resolve();
  assert.deepEqual(calls, [["m1", "m2", "m3"]]);
});

test("random orders of arrival of one history result in the same conversation", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const chance = generator(seed);
    // `truth`: twenty messages, some edited later. Their events arrive in order, pages in between.
    const truth = new Map();
    let state = after(latest());
    for (let step = 0; step < 40; step++) {
      if (truth.size < 20 && chance() < 0.6) {
        const id = truth.size + 1;
        truth.set(id, `m${id}`);
        const event = created(id, `m${id}`);
        for (let times = chance() < 0.2 ? 2 : 1; times > 0; times--) state = reduce(state, event);
      } else if (truth.size) {
        const id = 1 + Math.floor(chance() * truth.size);
        const response = page(
          state,
          "refresh",
          [...truth].map(([each, content]) => message(each, content)),
        );
        truth.set(id, `${truth.get(id)}+`);
        state = reduce(state, updated(id, truth.get(id)));
        if (chance() < 0.7) state = reduce(state, response); // arrives after the edit that it lacks
      }
    }
    assert.deepEqual(shown(state), [...truth.values()], `seed ${seed}`);
  }
});

function generator(seed) {
  return () => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return seed / 2_147_483_648;
  };
}
