/* The second step of a sign-in. */

import { stopAutofill } from "../autofill.js";
import { byId, clearForm } from "../forms.js";
import { offerStep, onSecondStep } from "../second-step.js";
import { setUp } from "./setup.js";

let page = null;
let step = null;

export const second = { name: "second", start, clear: () => clearForm(byId("second")) };

/** Continue a sign-in whose password was right. */
export async function continueWith(next) {
  stopAutofill();
  if (!next.methods.length) {
    await setUp(next);
    return;
  }
  step = next;
  offerStep("second", next);
  page.setView("second");
  byId("second-code").focus();
}

function start(startedPage) {
  page = startedPage;
  onSecondStep("second", (method, code) => step.complete(method, code));
  byId("second-back").onclick = page.leave;
}
