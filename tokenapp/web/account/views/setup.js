/* The set-up of a second factor during a sign-in, if the service requires one. */

import { showCodes } from "../codes.js";
import { onEnrol, showEnrolment } from "../enrolment.js";
import { byId } from "../forms.js";

let page = null;
let step = null;

export const setup = { name: "setup", start, clear };

/** Let the user set up what the step `next` requires. */
export async function setUp(next) {
  step = next;
  showEnrolment("setup", await next.startSetup());
  page.setView("setup");
  byId("setup-title").focus();
}

function start(startedPage) {
  page = startedPage;
  onEnrol("setup", page.leave, async (code) => {
    const { recoveryCodes } = await step.complete("totp", code);
    // It does not wait, because users may take long to save the codes.
    showCodes(recoveryCodes);
  });
}

function clear() {
  showEnrolment("setup", null);
}
