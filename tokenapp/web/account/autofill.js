/* Passkeys among what the browser offers in the field for the name, and the button for one. */

import { byId, showMessage } from "./forms.js";
import { hasPasskeys, onPasskey } from "./second-step.js";
import { messageFor } from "./texts.js";

const RENEWAL = 240_000; // before the challenge expires
let client = null;
let waiting = null;
let renewal;

/** Start the button for a passkey, if the service has them. It is hidden in browsers without them: in others, nothing on
    the page moves when it starts. */
export function startAutofill(clientOfPage) {
  const button = byId("sign-in-passkey");
  if (!button) return;
  button.hidden = !hasPasskeys();
  if (button.hidden) return;
  client = clientOfPage;
  button.disabled = false;
  onPasskey(button, problem(), signIn);
}

/** Offer passkeys if nobody is signed in. */
export function renewAutofill() {
  if (client?.user) stopAutofill();
  else if (client && !waiting) offer();
}

/** End the offer, as before another request to the browser, which takes one at a time. */
export function stopAutofill() {
  clearTimeout(renewal);
  waiting?.abort();
  waiting = null;
}

async function offer() {
  stopAutofill();
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.()) || client.user || waiting) return;
  const own = new AbortController();
  waiting = own;
  renewal = setTimeout(offer, RENEWAL);
  try {
    await client.signInWithPasskey({ mediation: "conditional", signal: own.signal });
  } catch (error) {
    if (own.signal.aborted || !error.code?.startsWith?.("passkey_")) return;
    showMessage(problem(), messageFor(error));
    offer(); // another passkey may be the right one
  }
}

async function signIn() {
  stopAutofill();
  try {
    await client.signInWithPasskey();
  } catch (error) {
    offer();
    throw error;
  }
}

function problem() {
  return byId("sign-in").querySelector(".problem");
}
