/* The form for a new password. */

import { byId, clearForm, onSubmit, showFieldError, showMessage } from "../forms.js";
import { text } from "../texts.js";

const MAX_BYTES = 1024;
const form = byId("change");

export const password = { name: "password", start, clear: () => clearForm(form) };

function start({ client, reload, withRecentPassword }) {
  const places = { password_rejected: "new", invalid_credentials: "current" };
  const change = async ({ current, new: chosen }) => {
    const problem = problemOf(chosen, current);
    if (problem) {
      showFieldError(byId("new"), problem);
      return;
    }
    const user = client.user?.id;
    await withRecentPassword(() => client.changePassword(current, chosen));
    if (client.user?.id !== user) return;
    clearForm(form);
    reload();
    showMessage(byId("change-done"), text("password.changed"));
  };
  onSubmit(form, change, { places });
}

/** Return why the service would reject a new password, as far as the page can tell. */
export function problemOf(chosen, current) {
  const normal = chosen.normalize("NFC");
  if ([...normal].length < Number(document.body.dataset.minimum)) return text("password.tooShort");
  if (new TextEncoder().encode(normal).length > MAX_BYTES) return text("password.tooLong");
  return chosen === current && text("password.same");
}
