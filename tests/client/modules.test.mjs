// The small modules: texts, links, lengths, times, pauses, sessions, and the chats with many participants.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Session as Inspector } from "node:inspector";
import { test } from "node:test";

import { Refusal, Unreachable } from "../../adapters/quart_app/client/api.js";
import { Session } from "../../adapters/quart_app/client/session.js";
import { isFinal, pause } from "../../adapters/quart_app/client/socket.js";
import { initial, lacksPeople, reduce, Store } from "../../adapters/quart_app/client/store.js";
import { Sync } from "../../adapters/quart_app/client/sync.js";
import { initials, isBlank, length, pieces, webAddress } from "../../adapters/quart_app/client/text.js";
import { timesIn } from "../../adapters/quart_app/client/times.js";
import { errorWords, fieldWords, preferredLanguage, WORDS } from "../../adapters/quart_app/client/words.js";

const shape = (value) =>
  typeof value === "object"
    ? Object.fromEntries(Object.entries(value).map(([key, part]) => [key, shape(part)]))
    : typeof value;

test("every language has the same texts, with the same kinds of values", () => {
  assert.deepEqual(shape(WORDS.ru), shape(WORDS.en));
});

test("numbers are counted as each language counts", () => {
  assert.deepEqual([1, 2, 5, 21].map(WORDS.ru.people), [
    "1 участник",
    "2 участника",
    "5 участников",
    "21 участник",
  ]);
  assert.deepEqual([1, 2].map(WORDS.en.people), ["1 person", "2 people"]);
});

test("the language is the chosen one, else the browser's first that is known, else English", () => {
  const storage = (value) => ({ getItem: () => value });
  assert.equal(preferredLanguage(storage("ru"), ["en"]), "ru");
  assert.equal(preferredLanguage(storage(null), ["fr-CA", "ru-RU", "en"]), "ru");
  assert.equal(preferredLanguage(storage("xx"), ["fr"]), "en");
});

test("an error's message depends on its code, or on whether there was a response", () => {
  assert.equal(
    errorWords(WORDS.en, new Refusal(401, { code: "invalid_credentials" })),
    WORDS.en.errors.invalid_credentials,
  );
  assert.equal(errorWords(WORDS.en, new Refusal(500, {})), WORDS.en.errors.unknown);
  assert.equal(errorWords(WORDS.en, new Unreachable()), WORDS.en.errors.unreachable);
  const messages = fieldWords(
    WORDS.ru,
    new Refusal(422, {
      errors: [
        { field: "password", code: "too_short", message: "x" },
        { field: "email", code: "new_rule", message: "must rhyme" },
      ],
    }),
  );
  assert.deepEqual(messages, { password: WORDS.ru.field_errors["password.too_short"], email: "must rhyme" });
});

test("links are addresses of http or https without the punctuation around them; joined pieces are the text", () => {
  for (const [text, ...links] of [
    ["plain"],
    [""],
    ["https://a.test", "https://a.test"],
    ["see http://a.test/x?y=1#z, then", "http://a.test/x?y=1#z"],
    ["(https://a.test/b_(c))", "https://a.test/b_(c)"],
    ["«https://a.test/д»!", "https://a.test/д"],
    ["javascript:alert(1) data:text/html,x vbscript:x ftp://a.test file:///etc"],
    ["https:// http://"],
    ['https://a.test"onclick=x', "https://a.test"],
    ["xhttps://a.test"],
    ["https://user:pass@a.test/ https://a.test:99999/", "https://user:pass@a.test/"],
    ["https://a.test/(b))).", "https://a.test/(b)"],
    ["https://a.test/((b)!)", "https://a.test/((b)"],
    ["https://a.test/)(", "https://a.test/)("],
    ["https://a.test/(b)…», (http://c.test)", "https://a.test/(b)", "http://c.test"],
    ["http://)."],
  ]) {
    const found = pieces(text);
    assert.equal(found.map((piece) => piece.text).join(""), text);
    assert.deepEqual(
      found.filter((piece) => piece.href).map((piece) => piece.text),
      links,
      text,
    );
  }
  assert.equal(webAddress("javascript:alert(1)"), null);
  assert.equal(webAddress(" jAvascript:alert(1)"), null);
});

/** The work of an action: executed blocks of text.js, plus characters passed to methods of String and RegExp. */
function workOf(action) {
  const inspector = new Inspector();
  inspector.connect();
  let work = 0;
  const restore = [];
  const counted = (prototype, name, size) => {
    const method = prototype[name];
    prototype[name] = function (...given) {
      work += size(this, given);
      return Reflect.apply(method, this, given);
    };
    restore.push(() => (prototype[name] = method));
  };
  const whole = (text) => text.length;
  for (const name of ["split", "replace", "replaceAll", "indexOf", "lastIndexOf", "trim", "normalize", "match"]) {
    counted(String.prototype, name, whole);
  }
  counted(String.prototype, "slice", (text, [from = 0, to = text.length]) => Math.max(0, to - from));
  counted(RegExp.prototype, "test", (_, [text]) => whole(text));
  try {
    inspector.post("Profiler.enable");
    inspector.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
    action();
    inspector.post("Profiler.takePreciseCoverage", (error, { result }) => {
      assert.equal(error, null);
      const [script] = result.filter(({ url }) => url.endsWith("/client/text.js"));
      for (const { ranges } of script.functions) for (const { count } of ranges) work += count;
    });
  } finally {
    for (const undo of restore) undo();
    inspector.disconnect();
  }
  return work;
}

test("the work of finding links is linear in the length of the text", () => {
  const hostile = [
    (size) => `http://a/${"(".repeat(size / 2)}${")".repeat(size / 2)}`,
    (size) => `http://a/${"()".repeat(size / 2)}`,
    (size) => `http://a/${")".repeat(size)}x`,
    (size) => `http://a/${")x".repeat(size / 2)}`,
    (size) => "http://a/(b). ".repeat(size / 14),
    (size) => "http://".repeat(size / 7),
    (size) => "h".repeat(size),
  ];
  for (const text of hostile) {
    const work = (size) => workOf(() => pieces(text(size)));
    assert.ok(work(4_000) < 20 * 4_000, text(20));
    assert.ok(work(100_000) < 20 * 100_000, text(20));
  }
});

test("links that end in brackets equal those of a simple algorithm that counts the brackets each time", () => {
  const withoutTrailing = (link) => {
    const count = (text, character) => text.split(character).length - 1;
    let short = link.replace(/[.,;:!?…»”’)\]}]+$/u, "");
    while (link[short.length] === ")" && count(short, "(") > count(short, ")")) short += ")";
    return short;
  };
  const alphabet = ["(", ")", ".", "x"];
  for (let number = 0; number < 4 ** 7; number++) {
    let end = "";
    for (let rest = number, place = 0; place < 7; place++, rest >>= 2) end += alphabet[rest & 3];
    const link = `http://a/${end}`;
    const [{ text }] = pieces(link);
    assert.equal(text, withoutTrailing(link));
  }
});

test("a length is the number of code points in NFC; an initial is a whole character", () => {
  assert.deepEqual(["a😀é", "e\u0301", "\u0958", "\u1100\u1161\u11a8"].map(length), [3, 1, 2, 1]);
  assert.equal(length("e" + "\u0301".repeat(31)), 32); // more than 30 marks: without NFC
  assert.deepEqual(["Alice", "alice moreau", "Анна Мария Ли", "👩‍👩‍👧 family", "  x  ", "李"].map(initials), [
    "A",
    "AM",
    "АЛ",
    "👩‍👩‍👧F",
    "X",
    "李",
  ]);
});

test("a text without a visible character is blank", () => {
  const unseen = [..." \n\t\u200b\u3000\u3164\u2800\uffa0\ufe0f\u202e\u2060\u00ad\u115f\u180e\u0301\u0903\u20dd\ufffc\uffff"];
  unseen.push("\u{e0067}", "\u{e0100}", "\u{1d159}", "\u{13441}", "\u{1ffff}");
  for (const text of ["", ...unseen, unseen.join("")]) assert.equal(isBlank(text), true, escape(text));
  for (const text of ["x", " . ", "😀", "e\u0301", "한", "❤️", "\u{1fae8}", "\ue000"]) {
    assert.equal(isBlank(text), false, escape(text));
    assert.equal(isBlank(unseen.join("") + text), false, escape(text));
  }
});

test("the server's table of code points that are never drawn equals Unicode's", () => {
  const source = readFileSync(new URL("../../messaging_core/characters.py", import.meta.url), "utf8");
  const table = source.slice(source.indexOf("DEFAULT_IGNORABLE"), source.indexOf("Default_Ignorable_Code_Point"));
  const ranges = [...table.matchAll(/\(0x([0-9A-F]+), 0x([0-9A-F]+)\)/gu)].map(([, first, last]) => [
    parseInt(first, 16),
    parseInt(last, 16),
  ]);
  assert.ok(ranges.length > 10);
  for (let point = 0; point <= 0x10ffff; point++) {
    const expected = /\p{Default_Ignorable_Code_Point}/u.test(String.fromCodePoint(point));
    assert.equal(ranges.some(([first, last]) => first <= point && point <= last), expected, point.toString(16));
  }
});

test("recent days have names", () => {
  const times = timesIn("en-GB", WORDS.en);
  const now = new Date(2024, 10, 4, 0, 30);
  assert.equal(times.separator(new Date(2024, 10, 4, 0, 1), now), "Today");
  assert.equal(times.separator(new Date(2024, 10, 3, 23, 59), now), "Yesterday");
  assert.equal(times.separator(new Date(2024, 10, 1, 12, 0), now), "Friday 1 November");
  assert.equal(times.separator(new Date(2022, 0, 1, 12, 0), now), "1 January 2022");
  assert.equal(times.brief(new Date(2024, 10, 4, 0, 1), now), "00:01");
  assert.equal(times.brief(new Date(2024, 10, 1, 12, 0), now), "Fri");
});

test("pauses grow to a maximum and are random; close codes of 4500 to 4999 are final", () => {
  assert.deepEqual(
    [0, 1, 2, 20].map((failures) => pause(failures, 1)),
    [500, 1000, 2000, 15000],
  );
  assert.equal(pause(3, 0), pause(3, 1) / 2);
  assert.deepEqual(
    [1000, 1006, 1008, 1012, 4408, 4429, 4499, 4500, 4999, 5000].filter(isFinal),
    [4500, 4999],
  );
});

// --- the session -------------------------------------------------------------------------------------------

class Memory {
  items = new Map();
  getItem = (name) => this.items.get(name) ?? null;
  setItem = (name, value) => this.items.set(name, value);
  removeItem = (name) => this.items.delete(name);
}

class Locks {
  last = Promise.resolve();
  request = (_, held) => (this.last = this.last.then(held, held));
}

function signedIn(exchange, locks = undefined) {
  const session = new Session({ storage: new Memory(), locks, exchange });
  session.begin({ access_token: "a1", refresh_token: "r1", user: { id: 7 } });
  return session;
}

const pair = (number) => ({ access_token: `a${number}`, refresh_token: `r${number}` });

test("with locks, several refusals cause one exchange", async () => {
  let exchanges = 0;
  const session = signedIn(async () => pair(++exchanges + 1), new Locks());
  assert.deepEqual(await Promise.all([1, 2, 3].map(() => session.refresh("a1"))), ["a2", "a2", "a2"]);
  assert.equal(exchanges, 1);
  assert.deepEqual(session.tokens, { ...pair(2), user_id: 7 });
});

test("without locks, each tab exchanges its token, and all continue", async () => {
  const presented = [];
  const session = signedIn(async (token) => (presented.push(token), pair(2)));
  assert.deepEqual(await Promise.all([session.refresh("a1"), session.refresh("a1")]), ["a2", "a2"]);
  assert.deepEqual(presented, ["r1", "r1"]);
});

test("if another tab has exchanged the token already, its result is used without a request", async () => {
  const session = signedIn(() => assert.fail("exchanged"));
  assert.equal(await session.refresh("a0"), "a1");
});

test("a refused exchange ends the session, unless another tab's succeeded", async () => {
  const ended = signedIn(async () => {
    throw new Refusal(401, { code: "refresh_token_reused" });
  });
  let calls = 0;
  ended.onEnd(() => calls++);
  assert.equal(await ended.refresh("a1"), null);
  assert.deepEqual([ended.tokens, calls], [null, 1]);
  const saved = signedIn(async () => {
    saved.begin({ ...pair(2), user: { id: 7 } });
    throw new Refusal(401, {});
  });
  assert.equal(await saved.refresh("a1"), "a2");
});

test("an unreachable or busy server does not end the session", async () => {
  for (const error of [new Unreachable(), new Refusal(503, {}), new Refusal(429, {}), new Refusal(500, {})]) {
    const session = signedIn(async () => {
      throw error;
    });
    await assert.rejects(session.refresh("a1"), error);
    assert.equal(session.tokens.refresh_token, "r1");
  }
});

test("a log-out during an exchange ends the session", async () => {
  const session = signedIn(async () => (session.end(), pair(2)));
  assert.equal(await session.refresh("a1"), null);
  assert.equal(session.tokens, null);
});

test("malformed data in the storage counts as no session", () => {
  const session = signedIn();
  for (const junk of ["", "{", "undefined", "1]"]) {
    session.storage.setItem("messaging.session", junk);
    assert.equal(session.tokens, null);
  }
});

// --- chats with many participants --------------------------------------------------------------------------

const person = (id) => ({ id, display_name: `P${id}`, tag: `p${id}` });
const many = (id, ...people) => ({
  id,
  title: "Many",
  is_group: true,
  participants: people.map(person),
  participants_count: 3,
});

/** A client of a server whose list has chat 7 with two of its three participants, and lacks chat 9. */
function client(chat = async (id) => many(id, 1, 2, 3)) {
  const store = new Store();
  const fetched = [];
  const api = {
    me: async () => person(1),
    chats: async () => [many(7, 1, 2)],
    chat: (id) => (fetched.push(id), chat(id)),
    messages: async () => ({ messages: [], has_more: false }),
  };
  return { store, fetched, sync: new Sync({ api, store }) };
}

test("a chat that the list has in part is fetched by itself when it is opened, once for each list", async () => {
  const { store, fetched, sync } = client();
  await sync.everything();
  assert.ok(lacksPeople(store.state.chats[7]));
  await sync.conversation(7);
  await sync.conversation(7);
  assert.deepEqual(fetched, [7]);
  assert.ok(!lacksPeople(store.state.chats[7]));
  assert.equal(store.state.users[3].display_name, "P3");
  store.dispatch({ type: "chat/opened", chat_id: 7 });
  await sync.everything();
  assert.deepEqual(fetched, [7, 7], "the second list had it in part again");
  assert.ok(!lacksPeople(store.state.chats[7]));
});

test("a chat is fetched again when it has changed, and once for changes that arrive together", async () => {
  const { store, fetched, sync } = client();
  await sync.everything();
  await sync.unknownChat(7);
  assert.deepEqual(fetched, [], "it is known");
  await Promise.all([sync.changedChat(7), sync.changedChat(7)]);
  assert.deepEqual(fetched, [7]);
  assert.equal(store.state.users[3].display_name, "P3");
});

test("participants that could not be fetched are fetched at the next opening", async () => {
  let fails = true;
  const { store, sync } = client(async (id) => {
    if (fails) throw new Unreachable();
    return many(id, 1, 2, 3);
  });
  await sync.everything();
  await assert.rejects(sync.conversation(7), Unreachable);
  fails = false;
  await sync.conversation(7);
  assert.ok(!lacksPeople(store.state.chats[7]));
});

test("an open chat beyond the end of the list is fetched, unless the reader is not in it", async () => {
  const { store, sync } = client(async (id) => {
    if (id === 9) return many(id, 1, 2, 3);
    throw new Refusal(403, { code: "not_a_participant" });
  });
  for (const [id, readable] of [
    [9, true],
    [10, false],
  ]) {
    store.dispatch({ type: "chat/opened", chat_id: id });
    await sync.everything();
    assert.equal(Boolean(store.state.chats[id]), readable);
  }
});

test("a user with a blank name, which older servers accepted, is shown by their tag", () => {
  const people = [person(1), { ...person(2), display_name: "\u3164" }];
  const chat = { ...many(7, 1, 2), participants: people };
  const state = reduce(initial, { type: "chat/loaded", chat });
  assert.equal(state.users[1].display_name, "P1");
  assert.equal(state.users[2].display_name, "@p2");
});
