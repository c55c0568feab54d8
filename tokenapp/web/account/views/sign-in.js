/* The form for signing in. */

import { renewAutofill, startAutofill } from "../autofill.js";
import { byId, clearForm, onSubmit } from "../forms.js";
import { continueWith } from "./second.js";
import { replaceTemporary } from "./temporary.js";

let page = null;

export const signIn = { name: "sign-in", start, open: () => page.leave(), clear: renewAutofill };

function start(startedPage) {
  page = startedPage;
  startAutofill(page.client);
  onSubmit(byId("sign-in"), async ({ username, password }) => {
    try {
      const result = await page.client.signIn(username, password);
      clearForm(byId("sign-in"));
      if ("complete" in result) await continueWith(result);
    } catch (error) {
      if (error.code === "password_change_required") {
        clearForm(byId("sign-in"));
        replaceTemporary({ username, password });
        return;
      }
      byId("password").focus();
      byId("password").select();
      throw error;
    }
  });
}
