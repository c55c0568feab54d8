/* The button that downloads what is stored about the user. */

import { save } from "../download.js";
import { byId, showMessage } from "../forms.js";
import { text } from "../texts.js";

export const data = { name: "data", start, clear };

function start(page) {
  const download = async () => {
    const content = JSON.stringify(await page.call("GET", "/api/me/export"), null, 2);
    save(content, "application/json", "account.json");
    showMessage(byId("data-done"), text("data.done"));
  };
  byId("download").onclick = () => page.attempt("data", download);
}

function clear() {
  for (const id of ["data-done", "data-problem"]) showMessage(byId(id));
}
