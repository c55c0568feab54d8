/* The form for signing in. */

import { byId, clearForm, onSubmit } from "../forms.js";

export const signIn = { name: "sign-in", start };

function start({ client }) {
  onSubmit(byId("sign-in"), async ({ username, password }) => {
    try {
      await client.signIn(username, password);
      clearForm(byId("sign-in"));
    } catch (error) {
      byId("password").focus();
      byId("password").select();
      throw error;
    }
  });
}
