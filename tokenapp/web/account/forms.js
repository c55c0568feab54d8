/* Forms and dialogs: one submission at a time, errors at their fields, and a countdown during a lockout. */

import { formatWait, messageFor, text, translate } from "./texts.js";

const PATIENCE = 10_000;

export const byId = (id) => document.getElementById(id);

/** Return a copy of the one element of a template, with its texts. */
export function fromTemplate(id) {
  const copy = byId(id).content.cloneNode(true);
  translate(copy);
  return copy.firstElementChild;
}

/** Show or clear a message. Screen readers announce the change of a live region. */
export function showMessage(element, message = "") {
  element.textContent = message;
  if (!element.classList.contains("done")) element.hidden = !message;
}

/** Call `work(values)` when the form is submitted, one submission at a time. Shows its errors in the form.
    `places` names the field that an error is shown at, by the code of the error. */
export function onSubmit(form, work, { places = {} } = {}) {
  const button = form.querySelector("[type=submit]");
  button.disabled = false; // until now it could do nothing
  for (const reveal of form.querySelectorAll(".reveal")) makeReveal(reveal);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    clearErrors(form);
    if (!checkFilled(form)) return;
    hideSecrets(form);
    setBusy(button, true);
    try {
      await withinPatience(form, work(Object.fromEntries(new FormData(form))));
      setBusy(button, false);
    } catch (error) {
      setBusy(button, false);
      showError(form, button, error, Object.hasOwn(places, error.code) && places[error.code]);
    }
  });
}

/** Clear the fields and messages of a form. */
export function clearForm(form, { keep = [] } = {}) {
  for (const input of form.querySelectorAll("input:not([readonly])")) {
    if (!keep.includes(input.name)) input.value = "";
  }
  hideSecrets(form);
  clearErrors(form);
}

/** Whether the user has typed something into a form. */
export function isTyped(form) {
  return [...form.querySelectorAll("input:not([readonly])")].some(({ value }) => value);
}

/** Show an error at `input`, and focus it. */
export function showFieldError(input, message) {
  showMessage(byId(`${input.id}-error`), message);
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

export function disable(button, isDisabled) {
  button.setAttribute("aria-disabled", String(isDisabled));
}

/** Show that `button` works, and ignore it until it is done. */
export function setBusy(button, isBusy) {
  disable(button, isBusy);
  button.setAttribute("aria-busy", String(isBusy));
}

/** Do `work` of a button, once at a time. */
export async function whileBusy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  setBusy(button, true);
  try {
    await work();
  } finally {
    setBusy(button, false);
  }
}

/** Ask whether the user is sure, with the texts of a view. Resolves to the answer. */
export async function askIfSure(view) {
  byId("sure-title").textContent = text(`${view}.sure`);
  byId("sure-text").textContent = text(`${view}.sureHint`);
  byId("sure-yes").textContent = text(`${view}.submit`);
  byId("sure-yes").onclick = () => byId("sure").close("yes");
  const closed = openDialog(byId("sure"));
  byId("sure").querySelector("[data-cancel]").focus(); // not by `autofocus`, which views may be quicker than
  await closed;
  return byId("sure").returnValue === "yes";
}

/** Open a dialog, and resolve when it is closed. The element that had the focus gets it back. */
export function openDialog(dialog) {
  const opener = document.activeElement;
  const closed = new Promise((resolve) => {
    dialog.addEventListener("close", resolve, { once: true });
  });
  dialog.returnValue = "";
  dialog.querySelector("[data-cancel]").onclick = () => dialog.close();
  dialog.showModal();
  return closed.then(() => {
    if (opener?.isConnected) opener.focus();
  });
}

/** Reject with an error if the work of a form takes too long. Its effect may still come. The time for which another
    dialog asks the user does not count. */
function withinPatience(form, work) {
  const isAsking = () => [...document.querySelectorAll("dialog[open]")].some((dialog) => !dialog.contains(form));
  const tooLate = (_, reject) => {
    const wait = () => setTimeout(() => (isAsking() ? wait() : reject({ status: 0, code: "timeout" })), PATIENCE);
    wait();
  };
  return Promise.race([work, new Promise(tooLate)]);
}

function checkFilled(form) {
  const empty = [...form.querySelectorAll("input[required]")].filter((input) => !input.value);
  for (const input of empty.reverse()) {
    showFieldError(input, text(`empty.${input.name}`));
  }
  return empty.length === 0;
}

function clearErrors(form) {
  for (const message of form.querySelectorAll(".error, .problem, .done")) showMessage(message);
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function showError(form, button, error, place) {
  if (error.code === "too_many_attempts") {
    countDown(form, button, error.retryAfter ?? 30);
    return;
  }
  if (error.isCancelled) return;
  if (place) showFieldError(byId(place), text(`fields.${error.code}`));
  else showMessage(form.querySelector(".problem"), messageFor(error));
}

/** Disable a form for `seconds`. Screen readers announce the duration once; the countdown is visual only. */
function countDown(form, button, seconds) {
  const problem = form.querySelector(".problem");
  const until = Date.now() + seconds * 1000;
  const counter = document.createElement("span");
  const spoken = document.createElement("span");
  const [before, after] = text("errors.too_many_attempts", { wait: "\n" }).split("\n");
  spoken.className = "unseen";
  spoken.textContent = formatWait(seconds) + after;
  counter.setAttribute("aria-hidden", "true");
  problem.replaceChildren(before, spoken, counter);
  problem.hidden = false;
  disable(button, true);
  const show = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left > 0 && counter.isConnected) {
      counter.textContent = formatWait(left) + after;
      return;
    }
    clearInterval(timer);
    disable(button, false);
    if (counter.isConnected) showMessage(problem, text("errors.waitIsOver"));
  };
  const timer = setInterval(show, 1000);
  show();
  // The lockout applies to this account only. Users can continue with another name.
  form.username?.addEventListener("input", () => showMessage(problem), { once: true });
}

function makeReveal(button) {
  const input = byId(button.getAttribute("aria-controls"));
  setRevealed(button, input, false);
  button.hidden = false;
  button.onclick = () => setRevealed(button, input, input.type === "password");
  const hint = byId(`${input.id}-caps`);
  for (const event of ["keydown", "keyup", "pointerdown"]) {
    input.addEventListener(event, (each) => {
      const isOn = each.getModifierState?.("CapsLock") ?? false; // browsers that fill in the form send plain events
      if (isOn === hint.hidden) showMessage(hint, isOn ? text("forms.capsLock") : "");
    });
  }
  input.addEventListener("blur", () => showMessage(hint));
}

function hideSecrets(form) {
  for (const button of form.querySelectorAll(".reveal")) {
    setRevealed(button, byId(button.getAttribute("aria-controls")), false);
  }
}

function setRevealed(button, input, isRevealed) {
  input.type = isRevealed ? "text" : "password";
  button.dataset.text = isRevealed ? "forms.hide" : "forms.show";
  button.dataset.label = isRevealed ? "forms.hidePassword" : "forms.showPassword";
  translate(button.parentElement);
}
