// The page to sign up or log in.

import { newKey } from "../api.js";
import { h, icon, iconButton, setAttribute, setText } from "../dom.js";
import { errorWords, fieldWords } from "../words.js";

/** The page while nobody is logged in; `signingUp` selects its form. */
export function welcome(app, signingUp = false) {
  const { words } = app;
  const problem = h("p", { class: "problem", role: "alert" });
  const name =
    signingUp &&
    field("display_name", words.display_name, { autocomplete: "name", maxlength: 64, "data-first": true });
  const email = field("email", words.email, {
    type: "email",
    autocomplete: "username",
    inputmode: "email",
    maxlength: 254,
    "data-first": !signingUp,
  });
  const password = passwordField(words, signingUp);
  const fields = [name, email, password].filter(Boolean);
  const submit = h(
    "button",
    { class: "button primary", type: "submit" },
    signingUp ? words.sign_up : words.log_in,
  );
  let attempt = null; // its body and key: a retry with an equal body creates no second account

  async function send(event) {
    event.preventDefault();
    setText(problem, "");
    for (const each of fields) each.refuse(each.input.value.trim() ? "" : words.fields.required);
    if (!focusRefused(fields)) return;
    const details = Object.fromEntries(
      fields.map(({ input }) => [input.name, input.name === "password" ? input.value : input.value.trim()]),
    );
    const body = JSON.stringify(details);
    if (attempt?.body !== body) attempt = { body, key: newKey() };
    submit.disabled = true;
    try {
      app.signedIn(signingUp ? await app.api.register(details, attempt.key) : await app.api.logIn(details));
    } catch (error) {
      const messages = fieldWords(words, error);
      for (const each of fields) each.refuse(messages[each.input.name] ?? "");
      if (focusRefused(fields)) setText(problem, errorWords(words, error));
    } finally {
      submit.disabled = false;
    }
  }

  function turn() {
    const page = welcome(app, !signingUp);
    shown.replaceWith(page);
    page.querySelector("[data-first]").focus();
  }

  const shown = h(
    "main",
    { class: "welcome" },
    h(
      "div",
      { class: "card" },
      h("span", { class: "mark" }, icon("bubble")),
      h("h1", {}, signingUp ? words.sign_up : words.log_in),
      h("p", { class: "tagline" }, words.tagline),
      h("form", { novalidate: true, onsubmit: send }, ...fields.map((each) => each.element), problem, submit),
      h(
        "button",
        { class: "button plain", type: "button", onclick: turn },
        signingUp ? words.to_log_in : words.to_sign_up,
      ),
    ),
    h(
      "button",
      { class: "button plain language", type: "button", onclick: () => app.switchLanguage() },
      icon("language"),
      words.language,
    ),
  );
  return shown;
}

function field(name, label, properties, ...after) {
  const input = h("input", {
    id: `field-${name}`,
    name,
    type: "text",
    required: true,
    spellcheck: "false",
    ...properties,
  });
  const hint = h("p", { class: "hint", id: `hint-${name}` });
  input.setAttribute("aria-describedby", hint.id);
  return {
    input,
    element: h(
      "div",
      { class: "field" },
      h("label", { for: input.id }, label),
      h("div", { class: "input" }, input, ...after),
      hint,
    ),
    /** Shows why the field is refused; an empty message clears it. */
    refuse(message) {
      setAttribute(input, "aria-invalid", message ? "true" : null);
      setText(hint, message);
    },
  };
}

function passwordField(words, signingUp) {
  const reveal = iconButton("eye", words.show_password, {
    "aria-pressed": "false",
    onclick() {
      const shown = password.input.type === "password";
      password.input.type = shown ? "text" : "password";
      setAttribute(reveal, "aria-pressed", shown);
      setAttribute(reveal, "aria-label", shown ? words.hide_password : words.show_password);
    },
  });
  const autocomplete = signingUp ? "new-password" : "current-password";
  const hint = signingUp ? words.password_hint : "";
  const properties = { type: "password", autocomplete, maxlength: 128 };
  const password = field("password", words.password, properties, reveal);
  const { refuse } = password;
  password.refuse = (message) => {
    refuse(message);
    if (!message) setText(password.element.querySelector(".hint"), hint);
  };
  password.refuse("");
  return password;
}

/** Whether no field is refused; focuses the first that is. */
function focusRefused(fields) {
  const refused = fields.find(({ input }) => input.getAttribute("aria-invalid"));
  refused?.input.focus();
  return !refused;
}
