/* Creating an account: an address is confirmed by mail, and then gets a name and a password. */

import { callAsNobody } from "../calls.js";
import { byId, showFieldError } from "../forms.js";
import { adoptSession, discardSession, linkView } from "../links.js";
import { problemOf } from "./password.js";

const places = {
  username_rejected: "register-name",
  username_taken: "register-name",
  password_rejected: "register-new",
};

export const register = linkView("register", { ask: "/api/register", use, places });

async function use(page, token, { username, new: password }) {
  const problem = problemOf(password);
  if (problem) {
    showFieldError(byId("register-new"), problem);
    return;
  }
  await discardSession(page); // the new session takes its place
  await callAsNobody(page.client, "/api/register/complete", { token, username, password });
  await adoptSession(page);
}
