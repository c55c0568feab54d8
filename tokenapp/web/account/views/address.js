/* The form for a new address. It is used once the link that is mailed to it is opened. */

import { byId, clearForm, onSubmit, showFieldError, showMessage } from "../forms.js";
import { sentText } from "../links.js";
import { text } from "../texts.js";

const form = byId("address");

export const address = { name: "address", start, clear: () => clearForm(form) };

function start(page) {
  const change = async (email) => {
    try {
      await page.withRecentPassword(() => page.call("POST", "/api/me/email", { email }));
    } catch (error) {
      if (error.code !== "address_rejected") throw error;
      showFieldError(byId("address-email"), text("fields.address_rejected"));
      return;
    }
    clearForm(form);
    showMessage(byId("address-done"), sentText(email));
  };
  // It does not wait for the change, because users may take long to enter their password again.
  onSubmit(form, ({ email }) => {
    page.attempt("address", () => change(email));
  });
}
