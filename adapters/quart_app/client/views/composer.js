// The form that writes a new message or edits a sent one.

import { newKey } from "../api.js";
import { h, icon, iconButton, setAttribute, setText } from "../dom.js";
import { isBlank, length } from "../text.js";
import { errorWords } from "../words.js";

const LONGEST = 4_000; // characters, as the server counts them
const NEARLY = 3_800; // from here on the remaining characters are shown

export class Composer {
  #editing = null;

  constructor(app, chatId, { onSend, editLast }) {
    const { words } = app;
    Object.assign(this, { app, chatId, onSend, editLast });
    this.input = h("textarea", {
      rows: "1",
      dir: "auto",
      placeholder: words.write,
      enterkeyhint: "send",
      oninput: () => this.#changed(),
      onkeydown: (event) => this.#key(event),
    });
    this.count = h("span", { class: "count", "aria-live": "polite" });
    this.problem = h("p", { class: "problem", role: "alert" });
    this.button = h(
      "button",
      { class: "icon-button send", type: "submit", "aria-label": words.send, title: words.send },
      icon("send"),
    );
    this.quoted = h("span", { class: "quoted", dir: "auto" });
    this.mode = h(
      "div",
      { class: "mode", hidden: true },
      icon("edit"),
      h("strong", {}, words.editing),
      this.quoted,
      iconButton("close", words.cancel, { onclick: () => this.#leaveEditing() }),
    );
    // The users who are typing will be shown above this form, once the server reports them.
    this.element = h(
      "form",
      { class: "composer", onsubmit: (event) => this.#submit(event) },
      this.mode,
      this.problem,
      h("div", { class: "writing" }, this.input, this.count, this.button),
    );
    this.input.value = app.drafts.get(chatId) ?? "";
    queueMicrotask(() => this.#changed());
  }

  name(label) {
    setAttribute(this.input, "aria-label", label);
  }

  focus() {
    this.input.focus();
  }

  /** Edit a sent message here; the unsent text returns afterwards. */
  edit(message) {
    if (this.#editing === null) this.draft = this.input.value;
    this.#editing = { message, key: newKey(), content: null };
    this.#show(message.content ?? "");
    setText(this.quoted, message.content ?? "");
    this.mode.hidden = false;
    this.#label(this.app.words.save);
    this.focus();
  }

  #leaveEditing() {
    this.#editing = null;
    this.mode.hidden = true;
    this.#label(this.app.words.send);
    this.#show(this.draft ?? "");
    this.focus();
  }

  #label(label) {
    setAttribute(this.button, "aria-label", label);
    setAttribute(this.button, "title", label);
  }

  #show(text) {
    this.input.value = text;
    setText(this.problem, "");
    this.#changed();
  }

  #changed() {
    const { words, drafts } = this.app;
    const text = this.input.value;
    if (this.#editing === null) {
      if (text) drafts.set(this.chatId, text);
      else drafts.delete(this.chatId);
    }
    const used = text.length > NEARLY / 3 ? length(text) : text.length;
    setText(
      this.count,
      used > LONGEST ? words.too_long(used - LONGEST) : used > NEARLY ? words.left(LONGEST - used) : "",
    );
    this.count.classList.toggle("over", used > LONGEST);
    this.button.disabled = isBlank(text) || used > LONGEST;
    // As tall as its text, up to the maximum of the style sheet.
    this.input.style.height = "auto";
    if (text) this.input.style.height = `${this.input.scrollHeight}px`;
  }

  #key(event) {
    if (event.isComposing) return;
    const onScreenKeyboard = matchMedia("(pointer: coarse) and (hover: none)").matches;
    if (event.key === "Enter" && !event.shiftKey && !onScreenKeyboard) {
      event.preventDefault();
      this.element.requestSubmit();
    } else if (event.key === "Escape" && this.#editing) {
      event.preventDefault();
      this.#leaveEditing();
    } else if (event.key === "ArrowUp" && !this.input.value && !this.#editing) {
      if (this.editLast()) event.preventDefault();
    }
  }

  #submit(event) {
    event.preventDefault();
    if (this.button.disabled) return;
    if (this.#editing) return this.#saveEdit();
    const text = this.input.value.trim();
    this.#show("");
    this.onSend(text);
    this.focus();
  }

  async #saveEdit() {
    const { api, store, words } = this.app;
    const editing = this.#editing;
    const content = this.input.value.trim();
    if (content === editing.message.content) return this.#leaveEditing();
    if (editing.content !== content) Object.assign(editing, { content, key: newKey() });
    const since = store.state.clock;
    this.button.disabled = true;
    try {
      const message = await api.edit(editing.message.id, content, editing.key);
      store.dispatch({ type: "message/changed", message, since });
      if (this.#editing === editing) this.#leaveEditing();
    } catch (error) {
      if (this.#editing !== editing) return;
      setText(this.problem, errorWords(words, error));
      this.button.disabled = false;
    }
  }
}
