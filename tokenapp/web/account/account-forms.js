/* Forms and dialogs: one submission at a time, errors at their fields, and a countdown during a lockout. */

import { formatWait, messageFor } from "./account-words.js";

export const byId = (id) => document.getElementById(id);

/** Show or clear a message. Screen readers announce the change of a live region. */
export function showMessage(element, text = "") {
  element.textContent = text;
  if (!element.classList.contains("done")) element.hidden = !text;
}

/** Call `work(values)` when the form is submitted, one submission at a time. Shows its errors in the form. */
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
export function showFieldError(input, text) {
  showMessage(byId(`${input.id}-error`), text);
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
    showFieldError(input, `Please enter your ${input.labels[0].textContent.toLowerCase()}.`);
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
  if (place) showFieldError(byId(place.field), place.text ?? error.message);
  else showMessage(form.querySelector(".problem"), messageFor(error));
}

/** Disable a form for `seconds`. Screen readers announce the duration once; the countdown is visual only. */
function countDown(form, button, seconds) {
  const problem = form.querySelector(".problem");
  const until = Date.now() + seconds * 1000;
  const counter = document.createElement("span");
  const spoken = document.createElement("span");
  spoken.className = "unseen";
  spoken.textContent = `in ${formatWait(seconds)}.`;
  counter.setAttribute("aria-hidden", "true");
  showMessage(problem, "There were too many wrong passwords. You can try again ");
  problem.append(spoken, counter);
  const show = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left > 0 && counter.isConnected) {
      counter.textContent = `in ${formatWait(left)}.`;
      return;
    }
    clearInterval(timer);
    disable(button, false);
    if (counter.isConnected) showMessage(problem, "You can try again now.");
  };
  const timer = setInterval(show, 1000);
  show();
  // The lockout applies to this account only. Users can continue with another name.
  form.username.addEventListener("input", () => showMessage(problem), { once: true });
}

function makeReveal(button) {
  const input = byId(button.getAttribute("aria-controls"));
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
  button.setAttribute("aria-pressed", String(isRevealed));
  button.textContent = isRevealed ? "Hide" : "Show";
}
