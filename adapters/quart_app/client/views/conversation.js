// One chat: its name and people, its history, and the composer.

import { newKey } from "../api.js";
import { chatName, counterpart, isDeleted, isMine, lacksPeople, timeline } from "../store.js";
import { h, icon, iconButton, KeyedList, setAttribute, setText } from "../dom.js";
import { dayOf } from "../times.js";
import { avatar, userAvatar } from "./avatar.js";
import { Composer } from "./composer.js";
import { confirmRemoval } from "./dialogs.js";
import { createMessage, updateMessage } from "./message.js";

const NEAR = 120; // px from the bottom within which the newest message is followed
const TOGETHER = 5 * 60_000; // ms; closer messages of one author are shown as one block

export class Conversation {
  #following = true;
  #newBelow = false;

  constructor(app, chatId) {
    this.app = app;
    this.chatId = chatId;
    const { words } = app;
    this.picture = h("span", { class: "avatar" });
    this.name = h("h1", { dir: "auto", tabindex: "-1" });
    this.about = h("p", { class: "about", dir: "auto" });
    this.top = h("div", { class: "top", "aria-hidden": "true" });
    this.items = h("ol", {
      class: "messages",
      onkeydown: (event) => this.#key(event),
      onfocusin: (event) => this.#focusIn(event),
    });
    this.nothing = h("div", { class: "empty", hidden: true });
    this.scroller = h(
      "div",
      { class: "scroll", onscroll: () => this.#scrolled() },
      this.top,
      this.items,
      this.nothing,
    );
    this.newest = h(
      "button",
      { class: "newest", type: "button", hidden: true, onclick: () => this.#toBottom(true) },
      h("span"),
      icon("down"),
    );
    const on = {
      edit: ({ message }) => this.composer.edit(message),
      remove: ({ message }) => this.#remove(message),
      retry: ({ pending }) => this.app.outbox.retry(pending.key),
      drop: ({ pending }) => {
        this.app.outbox.drop(pending.key);
        this.composer.focus();
      },
    };
    this.list = new KeyedList(this.items, {
      key: (item) => item.key,
      create: (item) => (item.day ? h("li", { class: "day" }, h("span")) : createMessage(app, on)),
      update: (element, item) =>
        item.day ? setText(element.firstChild, item.day) : updateMessage(app, element, item),
    });
    this.composer = new Composer(app, chatId, {
      onSend: (text) => this.#send(text),
      editLast: () => this.#editLast(),
    });
    this.element = h(
      "div",
      { class: "conversation" },
      h(
        "header",
        { class: "bar" },
        iconButton("back", words.back, { class: "icon-button back", onclick: () => app.close() }),
        this.picture,
        h("div", { class: "names" }, this.name, this.about),
      ),
      h("div", { class: "history" }, this.scroller, this.newest),
      this.composer.element,
    );
    this.observer = new IntersectionObserver(
      (entries) => entries.at(-1).isIntersecting && this.#loadOlder(),
      { root: this.scroller, rootMargin: "600px 0px 0px" },
    );
    this.resized = new ResizeObserver(() => this.#following && this.#toBottom());
    this.resized.observe(this.scroller);
  }

  leave() {
    this.observer.disconnect();
    this.resized.disconnect();
  }

  focus() {
    // Focus in the composer would open an on-screen keyboard over half of the conversation.
    if (matchMedia("(pointer: coarse)").matches) this.name.focus();
    else this.composer.focus();
  }

  update(state) {
    const chat = state.chats[this.chatId];
    this.#showHead(state, chat);
    const { messages, pending, loaded, hasOlder } = timeline(state, this.chatId);
    const items = this.#items(state, chat, messages, pending);
    const newest = items.at(-1);
    const arrived = newest !== undefined && newest.key !== this.newestKey && this.newestKey !== undefined;
    this.newestKey = newest?.key;

    this.#following &&= this.#isNearBottom; // the last scroll event may not have arrived yet
    const height = this.scroller.scrollHeight;
    const grewAbove = this.oldest !== undefined && messages[0]?.id < this.oldest;
    this.oldest = messages[0]?.id;
    setAttribute(this.items, "aria-busy", loaded ? null : "true");
    setText(
      this.top,
      !loaded || (hasOlder && messages.length)
        ? this.app.words.loading
        : messages.length
          ? this.app.words.history_start
          : "",
    );
    this.list.show(items);
    this.#keepOneTabStop();
    this.#showNothing(state, chat, loaded && !items.length);

    if (this.#following || (arrived && newest.mine && newest.pending)) this.#toBottom();
    else if (grewAbove) this.scroller.scrollTop += this.scroller.scrollHeight - height;
    else if (arrived) this.#newBelow = true;
    this.#showNewest();
    if (loaded && !this.watching) {
      this.watching = true;
      this.observer.observe(this.top);
    }
  }

  #showHead(state, chat) {
    if (this.shownChat === chat && this.shownUsers === state.users) return;
    Object.assign(this, { shownChat: chat, shownUsers: state.users });
    const { words } = this.app;
    const other = counterpart(state, chat);
    const name = chatName(state, chat);
    if (this.shownName !== name || this.shownOther !== other) {
      const picture = chat.is_group ? avatar(name, { id: chat.id, group: true }) : userAvatar(other);
      this.picture.replaceWith(picture);
      this.picture = picture;
      Object.assign(this, { shownName: name, shownOther: other });
    }
    setText(this.name, name);
    const people = chat.participant_ids.map((id) =>
      id === state.me.id ? words.you : state.users[id].display_name,
    );
    if (lacksPeople(chat)) people.push("…");
    const about = `${words.people(chat.participants_count)}: ${people.join(", ")}`;
    setText(this.about, other ? `@${other.tag}` : about);
    setAttribute(this.about, "title", this.about.textContent);
    setAttribute(this.items, "aria-label", words.messages_with(name));
    this.composer.name(words.message_to(name));
  }

  #showNothing(state, chat, empty) {
    const { words } = this.app;
    this.nothing.hidden = !empty;
    if (!empty || this.nothing.childElementCount) return;
    this.nothing.append(
      h("h2", {}, words.no_messages),
      h("p", { dir: "auto" }, words.no_messages_hint(chatName(state, chat))),
    );
  }

  // --- items -----------------------------------------------------------------------------------------------

  #items(state, chat, messages, pending) {
    const { words, times } = this.app;
    const items = [];
    let day = null;
    let before = null;
    for (const message of messages) {
      const today = dayOf(message.ts);
      if (today !== day) {
        items.push({ key: `day ${today}`, day: times.separator(message.ts) });
        day = today;
        before = null;
      }
      const item = this.#item(state, chat, {
        key: message.key ?? message.id,
        message,
        pending: null,
        mine: isMine(state, message),
        authorId: message.author_id,
      });
      this.#join(before, item, before && Date.parse(message.ts) - Date.parse(before.message.ts) < TOGETHER);
      items.push(item);
      before = item;
    }
    for (const each of pending) {
      const item = this.#item(state, chat, {
        key: each.key,
        message: null,
        pending: each,
        mine: true,
        authorId: state.me.id,
      });
      this.#join(before, item, true);
      items.push(item);
      before = item;
    }
    for (const item of items) if (!item.day) item.authorName = item.author?.display_name ?? words.gone;
    return items;
  }

  #item(state, chat, item) {
    return {
      ...item,
      author: state.users[item.authorId] ?? null,
      group: chat.is_group,
      waiting: item.pending !== null && state.connection !== "open",
      first: true,
      last: true,
      named: chat.is_group && !item.mine && item.message?.type !== "system",
    };
  }

  #join(before, item, close) {
    if (!before || !close || before.authorId !== item.authorId || before.message?.type === "system") return;
    before.last = false;
    item.first = false;
    item.named = false;
  }

  // --- scrolling -------------------------------------------------------------------------------------------

  get #isNearBottom() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #scrolled() {
    this.#following = this.#isNearBottom;
    if (this.#following) this.#newBelow = false;
    this.#showNewest();
  }

  #toBottom(smooth = false) {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.#following = true;
    this.scroller.scrollTo({
      top: this.scroller.scrollHeight,
      behavior: smooth && !still ? "smooth" : "instant",
    });
  }

  #showNewest() {
    const { words } = this.app;
    this.newest.hidden = this.#following;
    setText(this.newest.firstChild, this.#newBelow ? words.new_below : "");
    setAttribute(this.newest, "aria-label", this.#newBelow ? words.new_below : words.newest);
  }

  async #loadOlder() {
    try {
      await this.app.sync.older(this.chatId);
    } catch {
      return; // the next scroll retries
    }
    // The observer reports changes only: observe anew, in case the top is still in view.
    this.observer.unobserve(this.top);
    if (this.app.store.state.logs[this.chatId]?.hasOlder) this.observer.observe(this.top);
  }

  // --- actions ---------------------------------------------------------------------------------------------

  #send(text) {
    this.#following = true;
    this.app.outbox.send(this.chatId, text);
  }

  #editLast() {
    const { messages } = timeline(this.app.store.state, this.chatId);
    const last = messages.findLast(
      (message) => isMine(this.app.store.state, message) && !isDeleted(message) && message.content !== null,
    );
    if (last) this.composer.edit(last);
    return Boolean(last);
  }

  async #remove(message) {
    const { api, store } = this.app;
    const removed = await confirmRemoval(this.app, message, (key) => api.remove(message.id, key), newKey());
    if (!removed) return;
    const since = store.state.clock;
    const known = store.state.logs[this.chatId]?.byId[message.id];
    if (known && !isDeleted(known)) {
      const gone = { ...known, content: null, payload: { deleted: true }, eventClock: undefined };
      store.dispatch({ type: "message/changed", message: gone, since });
    }
    this.composer.focus();
  }

  // --- keyboard: the messages are one tab stop; arrows move between them; E edits, Delete deletes ----------

  #keepOneTabStop() {
    const rows = this.items.querySelectorAll(".message");
    if (!this.stop?.isConnected) this.stop = rows[rows.length - 1];
    else if (document.activeElement !== this.stop && !this.stop.contains(document.activeElement))
      this.stop = rows[rows.length - 1];
    for (const row of this.items.querySelectorAll('.message[tabindex="0"]'))
      if (row !== this.stop) this.#tabbable(row, false);
    if (this.stop) this.#tabbable(this.stop, true);
  }

  #tabbable(row, yes) {
    row.tabIndex = yes ? 0 : -1;
    for (const button of row.querySelectorAll(".actions button")) button.tabIndex = yes ? 0 : -1;
  }

  #focusIn({ target }) {
    const row = target.closest(".message");
    if (!row || row === this.stop) return;
    if (this.stop) this.#tabbable(this.stop, false);
    this.stop = row;
    this.#tabbable(row, true);
  }

  #key(event) {
    const row = event.target.closest(".message");
    if (!row || event.target !== row || event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = [...this.items.querySelectorAll(".message")];
    const at = rows.indexOf(row);
    const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1 }[event.key];
    const changeable = !row.parts.actions.hidden;
    if (to !== undefined) rows[Math.min(Math.max(to, 0), rows.length - 1)].focus();
    else if (event.key === "Escape") this.composer.focus();
    else if (event.code === "KeyE" && changeable) this.composer.edit(row.item.message);
    else if (event.key === "Delete" && changeable) this.#remove(row.item.message);
    else return;
    event.preventDefault();
  }
}
