/* Setting a new password by mail, for users who forgot theirs. */

import { callAsNobody } from "../calls.js";
import { byId, showFieldError, showMessage } from "../forms.js";
import { discardSession, linkView } from "../links.js";
import { text } from "../texts.js";
import { problemOf } from "./password.js";

const places = { password_rejected: "reset-new" };

export const reset = linkView("reset", { ask: "/api/password-reset", use, places });

async function use(page, token, { new: newPassword }) {
  const problem = problemOf(newPassword);
  if (problem) {
    showFieldError(byId("reset-new"), problem);
    return;
  }
  await callAsNobody(page.client, "/api/password-reset/complete", { token, newPassword });
  await discardSession(page);
  await page.leave();
  showMessage(byId("sign-in-notice"), text("reset.done"));
}
