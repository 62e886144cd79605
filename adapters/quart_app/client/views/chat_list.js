// The left pane: the reader's name and tag, the search for chats and people, and the chats, latest activity first.

import { newKey } from "../api.js";
import { chatList, chatName, counterpart, isDeleted, isMine } from "../store.js";
import { h, icon, iconButton, KeyedList, setAttribute, setText } from "../dom.js";
import { errorWords } from "../words.js";
import { avatar, userAvatar } from "./avatar.js";
import { newGroup } from "./dialogs.js";

export class ChatList {
  constructor(app) {
    this.app = app;
    const { words } = app;
    this.me = h("div", { class: "me" });
    this.input = h("input", {
      type: "search",
      "aria-label": words.search_label,
      placeholder: words.search,
      autocomplete: "off",
      autocapitalize: "none",
      spellcheck: "false",
      enterkeyhint: "search",
      oninput: () => this.#searchChanged(),
      onkeydown: (event) => this.#searchKey(event),
    });
    this.found = h("div", { class: "found", role: "status" });
    this.items = h("ul", { class: "chats", onkeydown: (event) => this.#arrow(event) });
    this.list = new KeyedList(this.items, {
      key: (item) => item.id,
      create: () => this.#create(),
      update: (element, item) => this.#update(element, item),
    });
    this.nothing = h("div", { class: "empty", hidden: true });
    this.seen = new IntersectionObserver((entries) => this.#scrolledIntoView(entries));
    this.element = h(
      "div",
      { class: "side" },
      h(
        "header",
        { class: "bar" },
        this.me,
        iconButton("group", words.new_group, { onclick: () => newGroup(app) }),
        iconButton("language", words.language, { onclick: () => app.switchLanguage() }),
        iconButton("out", words.log_out, { onclick: () => app.logOut() }),
      ),
      h("search", { class: "search", role: "search" }, icon("search"), this.input),
      this.found,
      h("nav", { class: "scroll", "aria-label": words.chats }, this.items, this.nothing),
    );
  }

  update(state) {
    if (state.me !== this.shownMe) this.#showMe((this.shownMe = state.me));
    const needle = this.input.value.trim().toLocaleLowerCase();
    const rows = chatList(state).map((row) => this.#row(state, row));
    const shown = needle.startsWith("@")
      ? rows.filter((row) => row.tag !== null && `@${row.tag}`.startsWith(needle))
      : rows.filter((row) => row.name.toLocaleLowerCase().includes(needle));
    this.list.show(shown);
    this.#showNothing(state, rows.length, shown.length);
  }

  focus() {
    this.input.focus();
  }

  focusChat(chatId) {
    this.list.elementOf(chatId)?.querySelector("a").focus();
  }

  #showMe(me) {
    if (!me) return;
    this.me.replaceChildren(
      userAvatar(me),
      h("div", { class: "names" }, h("strong", { dir: "auto" }, me.display_name), this.#tagButton(me.tag)),
    );
  }

  /** A button that copies the reader's tag, which others need to find them. */
  #tagButton(tag) {
    const { words } = this.app;
    const shown = h("span", {}, `@${tag}`);
    const label = `${words.your_tag}: @${tag}. ${words.copy_tag(`@${tag}`)}`;
    const copy = async () => {
      await navigator.clipboard?.writeText(`@${tag}`);
      setText(shown, words.copied);
      setTimeout(() => setText(shown, `@${tag}`), 1_200);
    };
    return h(
      "button",
      { class: "tag", type: "button", "aria-label": label, title: words.copy_tag(`@${tag}`), onclick: copy },
      shown,
      icon("copy"),
    );
  }

  #showNothing(state, all, shown) {
    const { words } = this.app;
    this.nothing.hidden = !state.loaded || shown > 0 || this.found.childElementCount > 0;
    if (this.nothing.hidden) return;
    const kind = all ? "no match" : "no chats";
    if (this.nothing.dataset.kind === kind) return;
    this.nothing.dataset.kind = kind;
    this.nothing.replaceChildren(
      ...(all
        ? [h("p", {}, words.no_match)]
        : [
            h("span", { class: "mark" }, icon("bubble")),
            h("h2", {}, words.no_chats),
            h("p", {}, words.no_chats_hint),
            this.#tagButton(state.me.tag),
          ]),
    );
  }

  // --- rows ------------------------------------------------------------------------------------------------

  #row(state, { chat, last, pending, previewed }) {
    const other = counterpart(state, chat);
    return {
      id: chat.id,
      name: chatName(state, chat),
      tag: other?.tag ?? null,
      other,
      people: chat.participants_count,
      group: chat.is_group,
      open: state.open === chat.id,
      preview: pending ? pending.content : last ? this.#previewOf(state, chat, last) : "",
      status: pending ? pending.state : null,
      ts: pending || !last ? null : last.ts,
      previewed,
    };
  }

  #previewOf(state, chat, message) {
    const { words } = this.app;
    const text = isDeleted(message) ? words.deleted : (message.content ?? words.types[message.type]);
    if (isMine(state, message)) return words.said(words.you, text);
    if (!chat.is_group || message.type === "system") return text;
    return words.said(state.users[message.author_id]?.display_name ?? words.gone, text);
  }

  #create() {
    const name = h("strong", { class: "name", dir: "auto" });
    const time = h("time");
    const preview = h("span", { class: "preview", dir: "auto" });
    // The end of the second line will show the unread count, once the server has one.
    const aside = h("span", { class: "aside" });
    // A click on the open chat changes no address, so the focus must be moved here.
    const focusOpen = () => element.row.open && this.app.shell.opened(element.row.id);
    const link = h(
      "a",
      { onclick: focusOpen },
      h("span", { class: "avatar" }),
      h("span", { class: "line" }, name, time),
      h("span", { class: "line" }, preview, aside),
    );
    const element = h("li", {}, link);
    element.parts = { name, time, preview, aside, link };
    this.seen.observe(element);
    return element;
  }

  #update(element, row) {
    const { words, times } = this.app;
    const { name, time, preview, aside, link } = element.parts;
    element.row = row;
    setAttribute(link, "href", `#/chat/${row.id}`);
    setAttribute(link, "aria-current", row.open ? "page" : null);
    const picture = row.group ? avatar(row.name, { id: row.id, group: true }) : userAvatar(row.other);
    if (element.picture !== row.other || link.firstChild.childNodes.length === 0)
      link.firstChild.replaceWith(picture);
    element.picture = row.other;
    setText(name, row.name);
    setText(time, row.ts ? times.brief(row.ts) : "");
    setAttribute(time, "datetime", row.ts);
    setText(preview, row.preview || (row.group ? words.people(row.people) : row.tag ? `@${row.tag}` : ""));
    aside.replaceChildren(...(row.status ? [icon(row.status)] : []));
    if (element.visible && !row.previewed) this.#preview(row.id);
  }

  #scrolledIntoView(entries) {
    for (const { target, isIntersecting } of entries) {
      target.visible = isIntersecting;
      if (isIntersecting && !target.row.previewed) this.#preview(target.row.id);
    }
  }

  #preview(chatId) {
    this.app.sync.preview(chatId).catch(() => {}); // the next connection fetches it again
  }

  #arrow(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const links = [...this.items.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    if (at + step < 0) this.input.focus();
    else links[at + step]?.focus();
  }

  // --- finding people --------------------------------------------------------------------------------------

  get #tag() {
    const text = this.input.value.trim();
    return /^@\S+$/.test(text) ? text : null;
  }

  #searchChanged() {
    const { words } = this.app;
    const tag = this.#tag;
    this.found.replaceChildren(
      ...(tag
        ? [
            h(
              "button",
              { class: "row", type: "button", onclick: () => this.#find(tag) },
              icon("search"),
              h("span", {}, words.find(tag)),
            ),
          ]
        : []),
    );
    this.update(this.app.store.state);
  }

  #searchKey(event) {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (this.#tag) this.#find(this.#tag);
      else this.items.querySelector("a")?.click();
    } else if (event.key === "Escape" && this.input.value) {
      event.preventDefault();
      this.#clear();
    } else if (event.key === "ArrowDown") {
      event.preventDefault();
      (this.found.querySelector("button") ?? this.items.querySelector("a"))?.focus();
    }
  }

  #clear() {
    this.input.value = "";
    this.#searchChanged();
  }

  async #find(tag) {
    const { api, store, words } = this.app;
    this.found.replaceChildren(h("p", {}, words.finding));
    let result;
    try {
      const user = await api.findByTag(tag);
      result = user.id === store.state.me.id ? h("p", {}, words.that_is_you) : this.#person(user);
    } catch (error) {
      result = h(
        "p",
        { class: "problem" },
        error.code === "user_not_found" ? words.nobody(tag) : errorWords(words, error),
      );
    }
    if (tag !== this.#tag) return; // the user has typed something else
    this.found.replaceChildren(result);
    if (result.matches("button")) result.focus();
    this.update(store.state);
  }

  #person(user) {
    const key = newKey();
    const open = () => this.#openDirect(user, key);
    return h(
      "button",
      {
        class: "row person",
        type: "button",
        "aria-label": `${this.app.words.message_person(user.display_name)} @${user.tag}`,
        onclick: open,
      },
      userAvatar(user),
      h(
        "span",
        { class: "names" },
        h("strong", { dir: "auto" }, user.display_name),
        h("small", {}, `@${user.tag}`),
      ),
      h("span", { class: "go" }, icon("bubble")),
    );
  }

  async #openDirect(user, key) {
    const { api, store, words } = this.app;
    try {
      const chat = await api.openDirect(user.id, key);
      store.dispatch({ type: "chat/loaded", chat });
      this.#clear();
      this.app.open(chat.id);
    } catch (error) {
      this.found.append(h("p", { class: "problem" }, errorWords(words, error)));
    }
  }
}
