// Signing up and logging in.

import { newKey } from "../api.js";
import { h, icon, iconButton, setAttribute, setText } from "../dom.js";
import { errorWords, fieldWords } from "../words.js";

/** The whole page, as long as nobody is signed in. */
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
  let attempt = null; // what was asked, and its key: the same details again are the same registration

  async function send(event) {
    event.preventDefault();
    setText(problem, "");
    for (const each of fields) each.refuse(each.input.value.trim() ? "" : words.fields.required);
    if (!focusRefused(fields)) return;
    const details = Object.fromEntries(
      fields.map(({ input }) => [input.name, input.name === "password" ? input.value : input.value.trim()]),
    );
    const asked = JSON.stringify(details);
    if (attempt?.asked !== asked) attempt = { asked, key: newKey() };
    submit.disabled = true;
    try {
      app.signedIn(signingUp ? await app.api.register(details, attempt.key) : await app.api.logIn(details));
    } catch (error) {
      const told = fieldWords(words, error);
      for (const each of fields) each.refuse(told[each.input.name] ?? "");
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
    refuse(told) {
      setAttribute(input, "aria-invalid", told ? "true" : null);
      setText(hint, told);
    },
  };
}

function passwordField(words, signingUp) {
  const reveal = iconButton("eye", words.show_password, {
    "aria-pressed": "false",
    onclick() {
      const shown = made.input.type === "password";
      made.input.type = shown ? "text" : "password";
      setAttribute(reveal, "aria-pressed", shown);
      setAttribute(reveal, "aria-label", shown ? words.hide_password : words.show_password);
    },
  });
  const autocomplete = signingUp ? "new-password" : "current-password";
  const hint = signingUp ? words.password_hint : "";
  const made = field("password", words.password, { type: "password", autocomplete, maxlength: 128 }, reveal);
  const { refuse } = made;
  made.refuse = (told) => {
    refuse(told);
    if (!told) setText(made.element.querySelector(".hint"), hint);
  };
  made.refuse("");
  return made;
}

/** Whether every field is well; otherwise the first that is not has the focus. */
function focusRefused(fields) {
  const refused = fields.find(({ input }) => input.getAttribute("aria-invalid"));
  refused?.input.focus();
  return !refused;
}
