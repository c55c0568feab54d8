/* The dialog with new recovery codes, which users have to save before they continue. */

import { save } from "./download.js";
import { byId, showFieldError, showMessage } from "./forms.js";
import { text } from "./texts.js";

/** Show recovery codes until the user says that they are saved. Shows nothing without codes. */
export async function showCodes(codes) {
  if (!codes?.length) return;
  const dialog = byId("codes");
  const content = `${codes.join("\n")}\n`;
  byId("codes-list").replaceChildren(...codes.map(itemOf));
  byId("codes-saved").checked = false;
  byId("codes-saved").removeAttribute("aria-invalid");
  showMessage(byId("codes-saved-error"));
  showMessage(byId("codes-done"));
  byId("codes-copy").onclick = () => copy(content);
  byId("codes-download").onclick = () => save(content, "text/plain", "recovery-codes.txt");
  byId("codes-print").onclick = () => print();
  byId("codes-continue").onclick = () => {
    if (byId("codes-saved").checked) dialog.close();
    else showFieldError(byId("codes-saved"), text("codes.saveFirst"));
  };
  dialog.oncancel = (event) => event.preventDefault(); // the Escape key would lose the codes
  const closed = new Promise((resolve) => {
    dialog.addEventListener("close", resolve, { once: true });
  });
  dialog.showModal();
  byId("codes-title").focus();
  await closed;
  byId("codes-list").replaceChildren();
}

function itemOf(code) {
  const item = document.createElement("li");
  item.textContent = code;
  return item;
}

async function copy(content) {
  try {
    await navigator.clipboard.writeText(content);
    showMessage(byId("codes-done"), text("codes.copied"));
  } catch {
    showMessage(byId("codes-done"), text("codes.notCopied"));
  }
}
