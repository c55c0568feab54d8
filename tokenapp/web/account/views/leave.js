/* The form that deletes the account, after its name was typed and the password entered. */

import { byId, clearForm, onSubmit, showFieldError, showMessage } from "../forms.js";
import { discardSession } from "../links.js";
import { text } from "../texts.js";

const form = byId("leave");

export const leave = { name: "leave", start, clear: () => clearForm(form) };

function start(page) {
  const remove = async () => {
    await page.withRecentPassword(() => page.call("DELETE", "/api/me"));
    await discardSession(page);
    showMessage(byId("sign-in-notice"), text("leave.done"));
  };
  onSubmit(form, ({ confirmation }) => {
    if (canonical(confirmation) !== canonical(page.client.user.username)) {
      showFieldError(byId("leave-name"), text("leave.mismatch"));
      return;
    }
    // It does not wait, because users may take long to enter their password again.
    page.attempt("leave", remove);
  });
}

function canonical(name) {
  return name.normalize("NFKC").toLowerCase().trim();
}
