// Pending messages: sent in order, each under one key for all its retries.
//
// pending -> (201) -> a message
//         -> (no response, no connection) waits, and is retried after reconnecting
//         -> (refused, or no response despite a connection) failed: its author retries or discards it

import { newKey, Unreachable } from "./api.js";

const TRIES = 3; // with a connection that seems to work
const PAUSE = 1_000; // ms between tries
const OWN_EVENT = 2_000; // ms after the response within which the author's own socket must deliver the event

export class Outbox {
  #busy = new Set(); // ids of chats with a message in flight

  constructor({ api, store, storage, onMissedEvent }) {
    this.api = api;
    this.store = store;
    this.storage = storage; // of this tab: pending messages survive a reload
    this.onMissedEvent = onMissedEvent; // called if the open socket does not deliver the event of an own message
  }

  send(chatId, content) {
    const item = {
      key: newKey(),
      chat_id: chatId,
      content,
      state: "pending",
      error: null,
      seen_as: null, // id of the message in an own event that matches this item, before its response
      written_at: Date.now(),
    };
    this.store.dispatch({ type: "outbox/added", item });
    this.#save();
    this.#work(chatId);
  }

  /** Retry a failed message under the same key: if the server has it, it replays its response. */
  retry(key) {
    this.#change(key, { state: "pending", error: null });
    this.#work(this.#item(key)?.chat_id);
  }

  drop(key) {
    this.store.dispatch({ type: "outbox/removed", key });
    this.#save();
  }

  /** Send the messages that wait for a connection. */
  flush() {
    for (const chatId of new Set(this.store.state.outbox.map((item) => item.chat_id))) this.#work(chatId);
  }

  /** Remove all data of a user who logs out. */
  forget() {
    this.storage.removeItem(this.#name);
  }

  /** Load the messages that this tab had not sent before its reload, and send them. */
  restore() {
    try {
      const saved = JSON.parse(this.storage.getItem(this.#name)) ?? [];
      for (const item of saved)
        this.store.dispatch({ type: "outbox/added", item: { ...item, seen_as: null } });
    } catch {
      this.storage.removeItem(this.#name);
    }
    this.flush();
  }

  async #work(chatId) {
    if (chatId === undefined || this.#busy.has(chatId)) return;
    this.#busy.add(chatId);
    try {
      for (let item; (item = this.#next(chatId));) {
        if (!(await this.#deliver(item))) break; // no connection: `flush` continues, in the same order
      }
    } finally {
      this.#busy.delete(chatId);
      this.#save();
    }
  }

  #next(chatId) {
    return this.store.state.outbox.find((item) => item.chat_id === chatId && item.state === "pending");
  }

  /** Send one item, with retries; false if it must wait for a connection, true if it was sent or has failed. */
  async #deliver({ key, chat_id, content }) {
    for (let tries = 1; ; tries++) {
      const since = this.store.state.clock;
      try {
        const message = await this.api.send(chat_id, content, key);
        this.store.dispatch({ type: "outbox/sent", key, message, since });
        this.#expectEvent(message);
        return true;
      } catch (error) {
        const lasting = !(error instanceof Unreachable || error.status === 429 || error.status >= 500);
        if (lasting) return this.#fail(key, error.code || "refused");
        await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? 0) * 1000 || PAUSE));
        if (error instanceof Unreachable && this.store.state.connection !== "open") return false;
        if (tries >= TRIES) return this.#fail(key, "unreachable");
      }
    }
  }

  #fail(key, error) {
    this.#change(key, { state: "failed", error, seen_as: null });
    return true;
  }

  #expectEvent({ chat_id, id }) {
    setTimeout(() => {
      const { connection, logs } = this.store.state;
      if (connection === "open" && !logs[chat_id]?.byId[id]?.eventClock) this.onMissedEvent();
    }, OWN_EVENT);
  }

  #item(key) {
    return this.store.state.outbox.find((item) => item.key === key);
  }

  #change(key, change) {
    this.store.dispatch({ type: "outbox/changed", key, change });
    this.#save();
  }

  get #name() {
    return `messaging.outbox.${this.store.state.me?.id}`;
  }

  #save() {
    if (!this.store.state.me) return;
    const { outbox } = this.store.state;
    if (outbox.length) this.storage.setItem(this.#name, JSON.stringify(outbox));
    else this.storage.removeItem(this.#name);
  }
}
