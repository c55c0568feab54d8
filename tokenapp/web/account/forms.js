/* Forms and dialogs: one submission at a time, errors at their fields, and a countdown during a lockout. */

import { formatWait, messageFor, text } from "./texts.js";

export const byId = (id) => document.getElementById(id);

/** Put the texts into the elements of `root` that name one. The service does the same for the page as it sends it. */
export function translate(root) {
  for (const each of root.querySelectorAll("[data-text]")) each.textContent = text(each.dataset.text);
  for (const each of root.querySelectorAll("[data-label]")) each.setAttribute("aria-label", text(each.dataset.label));
}

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
  for (const reveal of form.querySelectorAll(".reveal")) makeReveal(reveal);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    clearErrors(form);
    if (!checkFilled(form)) return;
    hideSecrets(form);
    disable(button, true);
    try {
      await work(Object.fromEntries(new FormData(form)));
      disable(button, false);
    } catch (error) {
      showError(form, button, error, places[error.code]);
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

/** Show an error at `input`, and focus it. */
export function showFieldError(input, message) {
  showMessage(byId(`${input.id}-error`), message);
  input.setAttribute("aria-invalid", "true");
  input.focus();
}

export function disable(button, isDisabled) {
  button.setAttribute("aria-disabled", String(isDisabled));
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
  disable(button, false);
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
}

function hideSecrets(form) {
  for (const button of form.querySelectorAll(".reveal")) {
    setRevealed(button, byId(button.getAttribute("aria-controls")), false);
  }
}

function setRevealed(button, input, isRevealed) {
  input.type = isRevealed ? "text" : "password";
  button.textContent = text(isRevealed ? "forms.hide" : "forms.show");
  button.setAttribute("aria-label", text(isRevealed ? "forms.hidePassword" : "forms.showPassword"));
}
