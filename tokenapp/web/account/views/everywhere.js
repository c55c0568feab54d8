/* The button that signs out all devices, including this one. */

import { askIfSure, byId, showMessage } from "../forms.js";

export const everywhere = { name: "everywhere", start, clear };

function start(page) {
  const endAll = async () => {
    if (!(await askIfSure("everywhere"))) return;
    await page.withRecentPassword(() => page.call("DELETE", "/api/sessions"));
    await page.client.signOut(); // tells the other tabs
  };
  byId("end-all").onclick = () => page.attempt("everywhere", endAll);
}

function clear() {
  showMessage(byId("everywhere-problem"));
}
