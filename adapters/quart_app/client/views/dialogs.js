// Modal dialogs: to create a group, and to confirm a deletion.

import { newKey } from "../api.js";
import { acquaintances } from "../store.js";
import { h, iconButton, setAttribute, setText } from "../dom.js";
import { errorWords, fieldWords } from "../words.js";
import { userAvatar } from "./avatar.js";

/** Shows a modal dialog and removes it when it closes; the browser moves the focus in and back. */
function modal(title, words, ...content) {
  const heading = h("h2", { id: "dialog-title" }, title);
  const dialog = h(
    "dialog",
    { "aria-labelledby": heading.id, onclose: () => dialog.remove() },
    h("header", {}, heading, iconButton("close", words.close, { onclick: () => dialog.close() })),
    ...content,
  );
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Asks for confirmation, and deletes; resolves with whether the message was deleted. */
export function confirmRemoval(app, message, remove, key) {
  const { words } = app;
  return new Promise((resolve) => {
    const problem = h("p", { class: "problem", role: "alert" });
    const yes = h("button", { class: "button danger", type: "button", onclick: act }, words.remove);
    const no = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, words.cancel);
    const quoted = h("blockquote", { dir: "auto" }, message.content ?? words.types[message.type]);
    let removed = false;
    async function act() {
      yes.disabled = true;
      try {
        await remove(key);
        removed = true;
        dialog.close();
      } catch (error) {
        setText(problem, errorWords(words, error));
        yes.disabled = false;
      }
    }
    const dialog = modal(
      words.remove_question,
      words,
      quoted,
      h("p", {}, words.remove_detail),
      problem,
      h("footer", {}, no, yes),
    );
    dialog.addEventListener("close", () => resolve(removed));
    no.focus();
  });
}

/** Asks for a title and members, and creates the group. */
export function newGroup(app) {
  const { words, store, api } = app;
  const chosen = new Map(); // id -> user
  const title = h("input", {
    type: "text",
    id: "group-title",
    maxlength: 128,
    autocomplete: "off",
    dir: "auto",
  });
  const titleHint = h("p", { class: "hint problem", id: "group-title-hint" });
  title.setAttribute("aria-describedby", titleHint.id);
  const tag = h("input", {
    type: "text",
    id: "group-tag",
    placeholder: "@tag",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
    onkeydown: (event) => event.key === "Enter" && add(event),
  });
  const addButton = h("button", { class: "button", type: "button", onclick: add }, words.add);
  const chips = h("ul", { class: "chips", "aria-label": words.members });
  const known = h("ul", { class: "people" });
  const problem = h("p", { class: "problem", role: "alert" });
  const create = h("button", { class: "button primary", type: "submit" }, words.create_group);
  let attempt = null; // its body and key: a retry with an equal body creates no second group

  const people = acquaintances(store.state);
  for (const user of people) {
    const box = h("input", { type: "checkbox", onchange: () => choose(user, box.checked) });
    box.user = user;
    known.append(
      h(
        "li",
        {},
        h(
          "label",
          {},
          box,
          userAvatar(user),
          h(
            "span",
            { class: "names" },
            h("strong", { dir: "auto" }, user.display_name),
            h("small", {}, `@${user.tag}`),
          ),
        ),
      ),
    );
  }

  function choose(user, yes) {
    if (yes) chosen.set(user.id, user);
    else chosen.delete(user.id);
    for (const box of known.querySelectorAll("input")) box.checked = chosen.has(box.user.id);
    chips.replaceChildren(...[...chosen.values()].map(chip));
    setText(problem, "");
  }

  function chip(user) {
    const remove = () => {
      choose(user, false);
      tag.focus();
    };
    return h(
      "li",
      {},
      userAvatar(user),
      h("span", { dir: "auto" }, user.display_name),
      iconButton("close", words.remove_person(user.display_name), { onclick: remove }),
    );
  }

  async function add(event) {
    event.preventDefault();
    const text = tag.value.trim();
    if (!text) return tag.focus();
    try {
      const user = await api.findByTag(text);
      if (user.id === store.state.me.id) return setText(problem, words.that_is_you);
      choose(user, true);
      tag.value = "";
      tag.focus();
    } catch (error) {
      setText(
        problem,
        error.code === "user_not_found"
          ? words.nobody(text.startsWith("@") ? text : `@${text}`)
          : errorWords(words, error),
      );
    }
  }

  async function submit(event) {
    event.preventDefault();
    const name = title.value.trim();
    setAttribute(title, "aria-invalid", name ? null : "true");
    setText(titleHint, name ? "" : words.fields.required);
    if (!name) return title.focus();
    if (!chosen.size) {
      setText(problem, words.choose_members);
      return tag.focus();
    }
    const body = JSON.stringify([name, [...chosen.keys()]]);
    if (attempt?.body !== body) attempt = { body, key: newKey() };
    create.disabled = true;
    try {
      const chat = await api.createGroup(name, [...chosen.keys()], attempt.key);
      store.dispatch({ type: "chat/loaded", chat });
      dialog.close();
      app.open(chat.id);
    } catch (error) {
      setText(problem, fieldWords(words, error).title ?? errorWords(words, error));
      create.disabled = false;
    }
  }

  const form = h(
    "form",
    { novalidate: true, onsubmit: submit },
    h(
      "div",
      { class: "field" },
      h("label", { for: title.id }, words.group_title),
      h("div", { class: "input" }, title),
      titleHint,
    ),
    h(
      "div",
      { class: "field" },
      h("label", { for: tag.id }, words.add_by_tag),
      h("div", { class: "input" }, tag, addButton),
    ),
    chips,
    people.length ? h("fieldset", {}, h("legend", {}, words.known_people), known) : null,
    problem,
    h("footer", {}, create),
  );
  const dialog = modal(words.new_group, words, form);
  title.focus();
}
