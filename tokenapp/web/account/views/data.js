/* The button that downloads what is stored about the user. */

import { byId, showMessage } from "../forms.js";
import { text } from "../texts.js";

export const data = { name: "data", start, clear };

function start(page) {
  const download = async () => {
    save(JSON.stringify(await page.call("GET", "/api/me/export"), null, 2));
    showMessage(byId("data-done"), text("data.done"));
  };
  byId("download").onclick = () => page.attempt("data", download);
}

function clear() {
  for (const id of ["data-done", "data-problem"]) showMessage(byId(id));
}

function save(content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: "application/json" }));
  link.download = "account.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // once the browser has surely read it
}
