// Fetches what the socket does not deliver: the chats, their history, and missed messages.

import { Refusal } from "./api.js";
import { lacksPeople, oldestId } from "./store.js";

const PAGE = 50;
const LARGEST_PAGE = 200;
const PAGES_TO_CATCH_UP = 5; // beyond, the log restarts from its latest page

export class Sync {
  #older = new Set(); // ids of chats whose older messages are being fetched
  #previews = new Set(); // ids of chats whose last message is being fetched
  #chats = new Map(); // chat id -> promise of a chat that is being fetched
  #pulls = new Map(); // chat id -> promise of the participants and messages that are being fetched
  #wholes = new Set(); // ids of chats that were fetched by themselves, with more participants than the list has

  constructor({ api, store }) {
    this.api = api;
    this.store = store;
  }

  /** Fetches the reader, their chats, and the missing messages of the open chat. */
  async everything() {
    const { store } = this;
    const since = store.state.clock;
    const [me, chats] = await Promise.all([this.api.me(), this.api.chats()]);
    this.#wholes.clear(); // the list replaces each chat, with a few of its participants
    store.dispatch({ type: "session/started", me });
    store.dispatch({ type: "chats/loaded", chats, since });
    const { open } = store.state;
    if (open !== null && (await this.#canRead(open))) await this.conversation(open);
  }

  /** Whether the reader is in a chat; asks the server about one that is not in the list, which has a limit. */
  async #canRead(chatId) {
    try {
      await this.unknownChat(chatId);
      return true;
    } catch (error) {
      if (error instanceof Refusal && error.status < 500) return false;
      throw error;
    }
  }

  /** Fetches the missing participants and messages of a chat before it is shown. */
  conversation(chatId) {
    if (!this.#pulls.has(chatId)) {
      this.#pulls.set(
        chatId,
        this.#pull(chatId).finally(() => this.#pulls.delete(chatId)),
      );
    }
    return this.#pulls.get(chatId);
  }

  async #pull(chatId) {
    await Promise.all([this.#people(chatId), this.#messages(chatId)]);
  }

  async #messages(chatId) {
    const log = this.store.state.logs[chatId];
    if (!log?.loaded) await this.#latest(chatId);
    else if (log.gapAfter !== null) await this.#closeGap(chatId, log.gapAfter);
  }

  /** Fetches a chat whose participants the list shows only in part. */
  async #people(chatId) {
    const chat = this.store.state.chats[chatId];
    if (!chat || !lacksPeople(chat) || this.#wholes.has(chatId)) return;
    this.#wholes.add(chatId);
    try {
      this.store.dispatch({ type: "chat/loaded", chat: await this.api.chat(chatId) });
    } catch (error) {
      this.#wholes.delete(chatId);
      throw error;
    }
  }

  async #latest(chatId) {
    await this.#page(chatId, "latest", PAGE);
  }

  async #closeGap(chatId, gapAfter) {
    const { epoch } = this.store.state;
    if (gapAfter === 0) return this.#refetch(chatId);
    // First the known messages again, for edits and deletions; then the new messages.
    const oldest = oldestId(this.store.state, chatId);
    for (let before = gapAfter + 1, pages = 0; before > oldest; pages++) {
      if (pages === PAGES_TO_CATCH_UP) break;
      const { messages } = await this.#page(chatId, "refresh", LARGEST_PAGE, { before_id: before });
      if (!messages.length) break;
      before = messages.at(-1).id;
    }
    for (let after = gapAfter, pages = 0; ; pages++) {
      if (pages === PAGES_TO_CATCH_UP) return this.#refetch(chatId);
      const { messages, has_more } = await this.#page(chatId, "newer", LARGEST_PAGE, { after_id: after });
      if (!has_more || !messages.length) break;
      after = messages[0].id;
    }
    this.store.dispatch({ type: "gap/closed", chat_id: chatId, epoch });
  }

  async #refetch(chatId) {
    this.store.dispatch({ type: "gap/lost", chat_id: chatId });
    await this.#latest(chatId);
  }

  /** Fetches the page of history before the oldest known message. */
  async older(chatId) {
    const log = this.store.state.logs[chatId];
    if (!log?.loaded || !log.hasOlder || this.#older.has(chatId)) return;
    this.#older.add(chatId);
    try {
      const before_id = oldestId(this.store.state, chatId);
      await this.#page(chatId, "older", PAGE, before_id ? { before_id } : {});
    } finally {
      this.#older.delete(chatId);
    }
  }

  /** Fetches the last message of a chat in the list, once in each connection. */
  async preview(chatId) {
    const { state } = this.store;
    if (this.#previews.has(chatId) || state.logs[chatId]?.previewed) return;
    this.#previews.add(chatId);
    const { clock: since, epoch } = state;
    try {
      const { messages } = await this.api.messages(chatId, 1);
      this.store.dispatch({ type: "preview/loaded", chat_id: chatId, messages, since, epoch });
    } finally {
      this.#previews.delete(chatId);
    }
  }

  /** Fetches a chat that is not in the list. */
  async unknownChat(chatId) {
    return this.store.state.chats[chatId] ? this.#chats.get(chatId) : this.changedChat(chatId);
  }

  /** Fetches a chat whose title, members or avatar are others now. */
  async changedChat(chatId) {
    if (this.#chats.has(chatId)) return this.#chats.get(chatId);
    const fetched = this.api
      .chat(chatId)
      .then((chat) => this.store.dispatch({ type: "chat/loaded", chat }))
      .finally(() => this.#chats.delete(chatId));
    this.#chats.set(chatId, fetched);
    return fetched;
  }

  async #page(chatId, kind, limit, anchor) {
    const { clock: since, epoch } = this.store.state;
    const page = await this.api.messages(chatId, limit, anchor);
    this.store.dispatch({ type: "page/loaded", chat_id: chatId, kind, since, epoch, ...page });
    return page;
  }
}
