// The state of the client, and the only way to change it: reduce(state, action) -> state, a pure function.
//
// Three rules keep the state right for every order of arrival:
// - messages are stored by id and shown in order of id, so a message that arrives twice is shown once;
// - events that arrive after a request was sent are newer than its response (`eventClock` against `since`);
// - a log with a gap records it (`gapAfter`), until the missing messages are fetched.

import { isBlank } from "./text.js";

export const initial = Object.freeze({
  me: null,
  users: {},
  chats: {},
  order: [], // ids of chats, latest activity first
  loaded: false, // whether the list of chats has been fetched
  logs: {}, // chat id -> log
  outbox: [], // pending messages, oldest first
  open: null, // id of the chat on screen
  connection: "connecting", // connecting | open | waiting | refused
  clock: 0, // number of the socket's events so far
  epoch: 0, // number of connections so far; a response from an earlier one may lack the events between
});

const EMPTY_LOG = Object.freeze({
  byId: {},
  ids: [], // ascending
  loaded: false, // whether the latest page has been fetched, so that no message up to the newest is missing
  hasOlder: true,
  gapAfter: null, // the newest id before the connection was lost; later messages and all edits may be missing
  previewed: false, // whether the newest message has been fetched
});

/** The state after an action; throws if the action is unknown. */
export function reduce(state, action) {
  switch (action.type) {
    case "session/started":
      return { ...state, me: action.me, users: keepUsers(state.users, [action.me]) };
    case "connection/changed":
      return connectionChanged(state, action.status);
    case "chat/opened":
      return { ...state, open: action.chat_id };
    case "chats/loaded":
      return chatsLoaded(state, action);
    case "chat/loaded":
      return chatLoaded(state, action.chat);
    case "page/loaded":
      return pageLoaded(state, action);
    case "preview/loaded":
      return previewLoaded(state, action);
    case "gap/closed":
      return isCurrent(state, action)
        ? withLog(state, action.chat_id, (log) => ({ ...log, gapAfter: null }))
        : state;
    case "gap/lost":
      return withLog(state, action.chat_id, () => EMPTY_LOG);
    case "event":
      return eventReceived(state, action);
    case "message/changed":
      return withLog(state, action.message.chat_id, (log) => merge(log, [action.message], action.since));
    case "outbox/added":
      return { ...state, outbox: [...state.outbox, action.item] };
    case "outbox/changed":
      return {
        ...state,
        outbox: state.outbox.map((item) => (item.key === action.key ? { ...item, ...action.change } : item)),
      };
    case "outbox/removed":
      return { ...state, outbox: state.outbox.filter((item) => item.key !== action.key) };
    case "outbox/sent":
      return sent(state, action);
    default:
      throw new Error(`no such action: ${action.type}`);
  }
}

function connectionChanged(state, status) {
  if (status === state.connection) return state;
  const next = { ...state, connection: status, epoch: status === "open" ? state.epoch + 1 : state.epoch };
  if (state.connection !== "open" && status !== "open") return next;
  const logs = {};
  for (const [id, log] of Object.entries(state.logs)) {
    logs[id] = { ...log, previewed: false, gapAfter: log.loaded ? (log.gapAfter ?? newestOf(log)) : null };
  }
  return { ...next, logs };
}

/** Whether a request of `epoch` belongs to the current connection. */
function isCurrent(state, { epoch }) {
  return state.connection === "open" && epoch === state.epoch;
}

function chatsLoaded(state, { chats, since }) {
  const listed = chats.map((chat) => chat.id);
  // Chats with events since the request was sent have later activity than the response shows: they stay in front.
  const busier = state.order.filter((id) => (lastEventClock(state.logs[id]) ?? 0) > since);
  const known = {};
  let users = state.users;
  for (const chat of chats) {
    known[chat.id] = chatOf(chat);
    users = keepUsers(users, chat.participants);
  }
  for (const id of busier) known[id] ??= state.chats[id];
  return { ...state, users, chats: known, order: [...new Set([...busier, ...listed])], loaded: true };
}

function chatLoaded(state, chat) {
  const order = state.order.includes(chat.id) ? state.order : inFront(state.order, chat.id);
  return {
    ...state,
    users: keepUsers(state.users, chat.participants),
    chats: { ...state.chats, [chat.id]: chatOf(chat) },
    order,
  };
}

function pageLoaded(state, action) {
  const { chat_id, kind, messages, has_more, since } = action;
  return withLog(state, chat_id, (log) => {
    if (kind !== "latest" || log.loaded) {
      const merged = merge(log, messages, since);
      return kind === "older" ? { ...merged, hasOlder: has_more } : merged;
    }
    // Messages may be missing between this page and older ones, so drop the older ones.
    const oldest = has_more ? (messages.at(-1)?.id ?? 0) : 0;
    const joined = Object.fromEntries(Object.entries(log.byId).filter(([id]) => Number(id) >= oldest));
    const gapAfter = isCurrent(state, action) ? null : (messages[0]?.id ?? 0);
    return {
      ...merge({ ...log, byId: joined }, messages, since),
      loaded: true,
      previewed: true,
      hasOlder: has_more,
      gapAfter,
    };
  });
}

function previewLoaded(state, action) {
  const { chat_id, messages, since } = action;
  return withLog(state, chat_id, (log) => ({
    ...merge(log, messages, since),
    previewed: action.epoch === state.epoch,
  }));
}

function eventReceived(state, { event, data }) {
  if (event !== "message.created" && event !== "message.updated") return state;
  const clock = state.clock + 1;
  const known = state.logs[data.chat_id]?.byId[data.id];
  let { outbox, order } = state;
  let message;
  if (event === "message.created") {
    // A known message came in a response, which is never older than the message's first event.
    message = known ? { ...known, eventClock: clock } : { ...data, eventClock: clock };
    if (!known && data.author_id === state.me?.id) {
      const mine = outbox.find(
        (item) => item.seen_as === null && item.chat_id === data.chat_id && item.content === data.content,
      );
      if (mine) {
        message.key = mine.key;
        outbox = outbox.map((item) => (item === mine ? { ...item, seen_as: data.id } : item));
      }
    }
    order = inFront(order, data.chat_id);
  } else {
    message = { ...known, ...data, eventClock: clock, edited: !isDeleted(data) };
  }
  const next = { ...state, clock, outbox, order };
  return withLog(next, data.chat_id, (log) => put(log, [message]));
}

function sent(state, { key, message, since }) {
  const item = state.outbox.find((other) => other.key === key);
  let next = {
    ...state,
    outbox: state.outbox.filter((other) => other.key !== key),
    order: inFront(state.order, message.chat_id),
  };
  if (item?.seen_as != null && item.seen_as !== message.id) {
    // The event that was matched to this message belongs to another one with the same text, from another tab.
    next = withLog(next, message.chat_id, (log) => put(log, [{ ...log.byId[item.seen_as], key: undefined }]));
  }
  return withLog(next, message.chat_id, (log) => merge(log, [{ ...message, key }], since));
}

// --- logs --------------------------------------------------------------------------------------------------

/** Adds the messages of a response; its request was sent when the clock was at `since`. */
function merge(log, messages, since) {
  const newer = messages
    .filter((message) => !(log.byId[message.id]?.eventClock > since))
    .map((message) => ({ ...log.byId[message.id], ...message, edited: message.edited_at != null }));
  return put(log, newer);
}

function put(log, messages) {
  const byId = { ...log.byId };
  for (const message of messages) byId[message.id] = message;
  return {
    ...log,
    byId,
    ids: Object.keys(byId)
      .map(Number)
      .sort((a, b) => a - b),
  };
}

function withLog(state, chatId, change) {
  return { ...state, logs: { ...state.logs, [chatId]: change(state.logs[chatId] ?? EMPTY_LOG) } };
}

function newestOf(log) {
  return log.ids.at(-1) ?? 0;
}

function lastEventClock(log) {
  return log && Math.max(0, ...log.ids.slice(-5).map((id) => log.byId[id].eventClock ?? 0));
}

function inFront(order, id) {
  return order[0] === id ? order : [id, ...order.filter((other) => other !== id)];
}

/** The stored form of a chat. Of a large chat, `participants` holds only some; `participants_count` counts all. */
function chatOf({ participants, ...chat }) {
  return { ...chat, participant_ids: participants.map((user) => user.id) };
}

/** Whether some of a chat's participants have not been fetched. */
export function lacksPeople(chat) {
  return chat.participant_ids.length < chat.participants_count;
}

/** Adds users; one with a blank name, which older servers accepted, is shown by their tag. */
function keepUsers(users, more) {
  const kept = { ...users };
  for (const user of more) {
    kept[user.id] = isBlank(user.display_name) ? { ...user, display_name: `@${user.tag}` } : user;
  }
  return kept;
}

// --- queries of the views ----------------------------------------------------------------------------------

export function isDeleted(message) {
  return message.deleted_at != null || (message.content === null && message.payload?.deleted === true);
}

export function isMine(state, message) {
  return message.author_id === state.me?.id;
}

/** The other person of a direct chat, or the reader if they are alone in it; null for a group. */
export function counterpart(state, chat) {
  if (chat.is_group) return null;
  const other = chat.participant_ids.find((id) => id !== state.me?.id) ?? state.me?.id;
  return state.users[other] ?? null;
}

/** The chat's name as the reader sees it: that of the other person in a direct chat, the title of a group. */
export function chatName(state, chat) {
  return counterpart(state, chat)?.display_name ?? chat.title;
}

/** Chats for the list, latest activity first, each with its last message and its last pending one. */
export function chatList(state) {
  return state.order
    .filter((id) => state.chats[id])
    .map((id) => {
      const log = state.logs[id];
      return {
        chat: state.chats[id],
        last: log?.ids.length ? log.byId[log.ids.at(-1)] : null,
        pending: state.outbox.findLast((item) => item.chat_id === id && item.seen_as === null) ?? null,
        previewed: log?.previewed ?? false,
      };
    });
}

/** The messages of a conversation by id, and the pending ones, oldest first. */
export function timeline(state, chatId) {
  const log = state.logs[chatId] ?? EMPTY_LOG;
  const messages = log.loaded ? log.ids.map((id) => log.byId[id]) : [];
  const pending = state.outbox.filter((item) => item.chat_id === chatId && item.seen_as === null);
  return { messages, pending, loaded: log.loaded, hasOlder: log.hasOlder };
}

export function oldestId(state, chatId) {
  return state.logs[chatId]?.ids[0] ?? null;
}

/** The known users who share a chat with the reader, sorted by name. */
export function acquaintances(state) {
  const ids = new Set(Object.values(state.chats).flatMap((chat) => chat.participant_ids));
  ids.delete(state.me?.id);
  return [...ids].map((id) => state.users[id]).sort((a, b) => a.display_name.localeCompare(b.display_name));
}

// --- the store ---------------------------------------------------------------------------------------------

/** Holds the state; calls its listeners once for all changes of one turn of the event loop. */
export class Store {
  #listeners = new Set();
  #scheduled = false;

  constructor(state = initial) {
    this.state = state;
  }

  dispatch(action) {
    const before = this.state;
    this.state = reduce(before, action);
    if (this.state === before || this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      for (const listener of this.#listeners) listener(this.state);
    });
  }

  /** Calls `listener(state)` after changes, until the returned function is called. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
