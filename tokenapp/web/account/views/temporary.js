/* The new password that a user with a temporary one has to choose before the sign-in. */

import { callAsNobody } from "../calls.js";
import { byId, clearForm, onSubmit, showFieldError } from "../forms.js";
import { adoptSession } from "../links.js";
import { problemOf } from "./password.js";

const form = byId("temporary");
let page = null;
let credentials = null;

export const temporary = { name: "temporary", start, clear };

/** Ask for a new password in place of the temporary one in `given`. */
export function replaceTemporary(given) {
  credentials = given;
  byId("temporary-name").value = given.username;
  page.setView("temporary");
  byId("temporary-new").focus();
}

function start(startedPage) {
  page = startedPage;
  byId("temporary-cancel").onclick = page.leave;
  onSubmit(form, signIn, { places: { password_rejected: "temporary-new" } });
}

async function signIn({ new: newPassword }) {
  const problem = problemOf(newPassword, credentials.password);
  if (problem) {
    showFieldError(byId("temporary-new"), problem);
    return;
  }
  await callAsNobody(page.client, "/api/login", { ...credentials, newPassword });
  await adoptSession(page);
}

function clear() {
  credentials = null;
  clearForm(form);
}
