/* The set-up of a second factor during a sign-in, if the service requires one. */

import { showCodes } from "../codes.js";
import { onEnrol, showEnrolment } from "../enrolment.js";
import { byId, showMessage } from "../forms.js";
import { hasPasskeys, onPasskey } from "../second-step.js";

let page = null;
let step = null;

export const setup = { name: "setup", start, clear };

/** Let the user set up what the step `next` requires. */
export async function setUp(next) {
  step = next;
  showEnrolment("setup", await next.startSetup());
  if (byId("setup-passkey")) byId("setup-passkey").hidden = !next.setup.includes("passkey") || !hasPasskeys();
  page.setView("setup");
  byId("setup-title").focus();
}

function start(startedPage) {
  page = startedPage;
  onEnrol("setup", page.leave, (code) => complete("totp", code));
  if (byId("setup-passkey")) onPasskey(byId("setup-passkey"), byId("setup-problem"), () => complete("passkey"));
}

async function complete(method, code) {
  const { recoveryCodes } = await step.complete(method, code);
  // It does not wait, because users may take long to save the codes.
  showCodes(recoveryCodes).then(page.goBack);
}

function clear() {
  showEnrolment("setup", null);
  if (byId("setup-problem")) showMessage(byId("setup-problem"));
}
