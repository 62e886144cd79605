// Connects session, API, socket, store and views, and handles their events.

import { Api, exchangeTokens, Refusal } from "./api.js";
import { Outbox } from "./outbox.js";
import { Session } from "./session.js";
import { LiveSocket } from "./socket.js";
import { chatName, isDeleted, isMine, Store } from "./store.js";
import { Sync } from "./sync.js";
import { timesIn } from "./times.js";
import { chooseLanguage, otherLanguage, preferredLanguage, WORDS } from "./words.js";
import { Shell } from "./views/shell.js";
import { welcome } from "./views/welcome.js";

const SOCKET_FIRST = 700; // ms that the first requests wait for the socket to open, so that it misses no event
const AGAIN = 3_000; // ms until requests without a response are retried

class App {
  constructor() {
    this.session = new Session({ storage: localStorage, locks: navigator.locks, exchange: exchangeTokens });
    this.api = new Api(this.session);
    this.socket = new LiveSocket({
      session: this.session,
      onFrame: (frame) => this.receive(frame),
      onStatus: (status) => this.connectionChanged(status),
    });
    this.shell = null;
    this.speak(preferredLanguage());

    this.session.onEnd(() => this.leave());
    window.addEventListener("hashchange", () => this.route());
    window.addEventListener("storage", (event) => Session.concerns(event) && this.otherTabChanged());
    window.addEventListener("online", () => this.socket.restart());
    window.addEventListener("offline", () => this.socket.restart());
  }

  start() {
    if (this.session.tokens) this.enter();
    else this.showWelcome();
  }

  // --- session --------------------------------------------------------------------------------------------

  enter() {
    this.userId = this.session.tokens.user_id;
    // New for each session: late responses to the previous session change nothing.
    this.store = new Store();
    this.sync = new Sync(this);
    this.outbox = new Outbox({ ...this, storage: sessionStorage, onMissedEvent: () => this.socket.restart() });
    this.drafts = new Map(); // chat id -> unsent text
    this.restored = false;
    this.forget = this.store.subscribe((state) => this.shell.update(state));
    this.shell = new Shell(this);
    document.body.replaceChildren(this.shell.element);
    this.route();
    this.socket.start();
    this.catchUpTimer = setTimeout(() => this.catchUp(), SOCKET_FIRST);
  }

  leave() {
    clearTimeout(this.catchUpTimer);
    this.socket.stop();
    this.forget();
    this.shell = null;
    this.showWelcome();
  }

  async logOut() {
    try {
      await this.api.logOut();
    } catch {
      // Log out in any case; the session expires on the server by itself.
    }
    this.outbox.forget();
    history.replaceState(null, "", location.pathname);
    this.session.end();
  }

  showWelcome() {
    document.title = this.words.app;
    document.body.replaceChildren(welcome(this));
    document.querySelector("[data-first]")?.focus();
  }

  signedIn(response) {
    this.session.begin(response);
    this.enter();
    this.shell.focusFirst();
  }

  otherTabChanged() {
    const { tokens } = this.session;
    if (tokens === null) {
      if (this.shell) this.leave();
    } else if (!this.shell) this.enter();
    else if (tokens.user_id !== this.userId) location.reload();
  }

  // --- server events --------------------------------------------------------------------------------------

  connectionChanged(status) {
    const { connection } = this.store.state;
    this.store.dispatch({ type: "connection/changed", status });
    // Without sockets, each failed connection triggers a poll: slower, but messages arrive.
    if (status === "open" || (status === "waiting" && connection === "connecting")) this.catchUp();
  }

  /** Fetch missed messages, with retries until it succeeds; a newer call replaces an older one. */
  async catchUp() {
    clearTimeout(this.catchUpTimer);
    const turn = (this.turn = {});
    try {
      await this.sync.everything();
      this.restoreOutbox();
    } catch (error) {
      if (turn !== this.turn || !this.shell || this.store.state.connection !== "open") return;
      this.catchUpTimer = setTimeout(() => this.catchUp(), (error.retryAfter ?? 0) * 1000 || AGAIN);
    }
  }

  restoreOutbox() {
    if (this.restored) return this.outbox.flush();
    this.restored = true;
    this.outbox.restore();
  }

  receive({ event, data }) {
    const before = this.store.state;
    this.store.dispatch({ type: "event", event, data });
    const { state } = this.store;
    if (state.clock === before.clock) return;
    const known = before.logs[data.chat_id]?.byId[data.id];
    const arrived = async () => {
      const isChange = data.type === "system"; // of the chat or its members
      await (isChange ? this.sync.changedChat(data.chat_id) : this.sync.unknownChat(data.chat_id));
      if (event === "message.created" && !known && !isMine(state, data) && !isDeleted(data))
        this.announce(data);
    };
    arrived().catch(() => {}); // the next connection fetches the list again
  }

  announce(message) {
    const { state } = this.store;
    const chat = state.chats[message.chat_id];
    if (!chat || !this.shell) return;
    const isSystem = message.type === "system";
    const name = isSystem
      ? chatName(state, chat)
      : (state.users[message.author_id]?.display_name ?? this.words.someone);
    const text = message.content ?? this.words.types[message.type];
    this.shell.announce(
      chat.is_group && !isSystem ? this.words.said_in(name, chatName(state, chat), text) : this.words.said(name, text),
    );
  }

  // --- user actions ---------------------------------------------------------------------------------------

  /** The address names the open chat, so that back, reload and links work. */
  route() {
    if (!this.shell) return;
    const named = /^#\/chat\/(\d{1,16})$/.exec(location.hash);
    const chatId = named ? Number(named[1]) : null;
    this.store.dispatch({ type: "chat/opened", chat_id: chatId });
    this.shell.update(this.store.state);
    this.shell.opened(chatId);
    if (chatId !== null && this.store.state.loaded) this.load(chatId);
  }

  async load(chatId) {
    try {
      await this.sync.unknownChat(chatId);
      await this.sync.conversation(chatId);
    } catch (error) {
      if (error instanceof Refusal || this.store.state.open !== chatId) return;
      setTimeout(() => this.store.state.open === chatId && this.load(chatId), AGAIN);
    }
  }

  open(chatId) {
    location.hash = `#/chat/${chatId}`;
  }

  close() {
    location.hash = "#/";
  }

  switchLanguage() {
    const language = otherLanguage(this.language);
    chooseLanguage(language);
    this.speak(language);
    if (!this.shell) return this.showWelcome();
    this.shell = new Shell(this);
    document.body.replaceChildren(this.shell.element);
    this.shell.update(this.store.state);
  }

  speak(language) {
    this.language = language;
    this.words = WORDS[language];
    this.times = timesIn(language, this.words);
    document.documentElement.lang = language;
  }
}

new App().start();
