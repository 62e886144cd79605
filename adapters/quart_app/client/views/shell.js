// The page of a logged-in user: the list of chats at the left, the open conversation at the right (one of both
// on a narrow screen), a banner with the state of the connection, and a live region for screen readers.

import { chatName } from "../store.js";
import { h, setAttribute, setText } from "../dom.js";
import { ChatList } from "./chat_list.js";
import { Conversation } from "./conversation.js";

const UNSETTLED = 1_200; // ms that an interruption lasts before the banner shows it

export class Shell {
  #bannerTimer = null;

  constructor(app) {
    this.app = app;
    const { words } = app;
    this.list = new ChatList(app);
    this.conversation = null;
    this.liveRegion = h("div", {
      class: "unseen",
      role: "log",
      "aria-live": "polite",
      "aria-relevant": "additions",
    });
    this.bannerText = h("span");
    this.bannerButton = h(
      "button",
      { class: "button plain", type: "button", onclick: () => location.reload() },
      words.reload,
    );
    this.banner = h(
      "div",
      { class: "banner", role: "status", hidden: true },
      this.bannerText,
      this.bannerButton,
    );
    this.nothing = h("div", { class: "empty" }, h("p", {}, words.pick_chat));
    this.main = h("main", { class: "pane", id: "conversation", tabindex: "-1" }, this.nothing);
    this.panes = h("div", { class: "panes" }, this.list.element, this.main);
    const skip = h(
      "a",
      { class: "skip", href: "#conversation", onclick: (event) => this.#skip(event) },
      words.skip,
    );
    this.element = h("div", { class: "shell" }, skip, this.banner, this.panes, this.liveRegion);
  }

  update(state) {
    this.#showConnection(state.connection);
    this.list.update(state);
    setAttribute(this.panes, "data-pane", state.open === null ? "list" : "conversation");
    const chat = state.open === null ? null : state.chats[state.open];
    if (this.conversation?.chatId !== (chat?.id ?? null)) this.#change(chat);
    this.conversation?.update(state);
    const unknown = state.loaded && state.open !== null && !chat;
    setText(this.nothing.firstChild, unknown ? this.app.words.not_a_chat : this.app.words.pick_chat);
    document.title = chat ? `${chatName(state, chat)} · ${this.app.words.app}` : this.app.words.app;
  }

  #change(chat) {
    this.conversation?.leave();
    this.conversation = chat ? new Conversation(this.app, chat.id) : null;
    this.main.replaceChildren(this.conversation?.element ?? this.nothing);
    if (this.conversation && this.focusWhenShown === chat.id) this.opened(chat.id);
  }

  /** Moves the focus to the chat that the address names, or, if it names none, to the list. */
  opened(chatId) {
    const before = this.openedBefore;
    this.openedBefore = chatId;
    if (chatId === null) {
      if (before) this.list.focusChat(before);
      return;
    }
    this.focusWhenShown = this.conversation?.chatId === chatId ? null : chatId;
    this.conversation?.focus();
  }

  focusFirst() {
    this.list.focus();
  }

  /** Has screen readers speak a text. */
  announce(text) {
    this.liveRegion.append(h("p", {}, text));
    while (this.liveRegion.childElementCount > 5) this.liveRegion.firstChild.remove();
  }

  #showConnection(connection) {
    if (connection === this.connection) return;
    this.connection = connection;
    setAttribute(this.element, "data-connection", connection);
    clearTimeout(this.#bannerTimer);
    if (connection === "open") this.banner.hidden = true;
    else if (connection === "refused") this.#showBanner();
    else if (this.banner.hidden) this.#bannerTimer = setTimeout(() => this.#showBanner(), UNSETTLED);
    else this.#showBanner();
  }

  #showBanner() {
    const { words, store } = this.app;
    const refused = this.connection === "refused";
    this.bannerButton.hidden = !refused;
    setText(this.bannerText, refused ? words.refused : store.state.loaded ? words.offline : words.connecting);
    this.banner.hidden = false;
  }

  #skip(event) {
    event.preventDefault();
    if (this.conversation) this.conversation.focus();
    else this.main.focus();
  }
}
