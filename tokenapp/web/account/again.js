/* The dialog that asks users to prove again who they are: with the password, and the second step if the account has one,
   or with a second factor alone. */

import { call } from "./calls.js";
import { byId, clearForm, onSubmit, openDialog } from "./forms.js";
import { hasPasskeys, offerStep, onPasskey, onSecondStep } from "./second-step.js";

let client = null;
let step = null;
let other = null;

/** Prepare the dialog. */
export function startAgain(clientOfPage) {
  client = clientOfPage;
  onSubmit(byId("again-form"), confirmPassword, { places: { invalid_credentials: "again-password" } });
  onSecondStep("again-second", confirmSecond);
  byId("again-code").onclick = () => showStep(other);
  if (byId("again-passkey")) {
    onPasskey(byId("again-passkey"), byId("again-problem"), () => {
      step = other;
      return confirmSecond("passkey");
    });
  }
  byId("again-second").querySelector("[data-cancel-too]").onclick = () => byId("again").close();
}

/** Do `action`. If it requires a recent sign-in, ask for one first, and then do it. */
export async function withRecentPassword(action) {
  try {
    return await action();
  } catch (error) {
    if (error.code !== "reauthentication_required") throw error;
  }
  clearAgain();
  const closed = openDialog(byId("again"));
  byId("again-password").focus();
  offerOther();
  await closed;
  const isConfirmed = byId("again").returnValue === "confirmed";
  clearAgain();
  if (!isConfirmed) throw Object.assign(new Error("cancelled"), { isCancelled: true });
  return action();
}

export function clearAgain() {
  step = null;
  other = null;
  showOther([]);
  showPassword(true);
  clearForm(byId("again-form"));
  clearForm(byId("again-second"));
  showForm("again-form");
}

async function confirmPassword({ password }) {
  const user = client.user?.id;
  step = await client.reauthenticate(password);
  if (client.user?.id !== user) return; // another user may have signed in
  if (!step) {
    byId("again").close("confirmed");
    return;
  }
  showStep(step);
}

/** Offer the second factors of the account in place of the password, which it may not have. */
async function offerOther() {
  const user = client.user?.id;
  const get = (path) => call(client, "GET", `/api/me${path}`).catch(() => null);
  const all = [get(""), get("/factors"), byId("again-passkey") && get("/passkeys")];
  const [me, factors, passkeys] = await Promise.all(all);
  const methods = [];
  if (passkeys?.passkeys.length) methods.push("passkey");
  if (factors?.items.length) methods.push("totp");
  if (factors?.recoveryCodesLeft) methods.push("recovery_code");
  if (client.user?.id !== user || !byId("again").open) return;
  other = { methods, complete: (method, code) => client.reauthenticate({ method, code }) };
  showOther(methods);
  if (me?.hasPassword !== false || !methods.length) return;
  showPassword(false);
  byId("again-other").querySelector("button:not([hidden])").focus();
}

function showPassword(isShown) {
  byId("again-password").closest(".field").hidden = !isShown;
  byId("again-form").querySelector("[type=submit]").hidden = !isShown;
}

function showOther(methods) {
  byId("again-other").hidden = !methods.length;
  byId("again-code").hidden = !methods.some((method) => method !== "passkey");
  if (byId("again-passkey")) byId("again-passkey").hidden = !methods.includes("passkey") || !hasPasskeys();
}

function showStep(next) {
  step = next;
  offerStep("again-second", step);
  showForm("again-second");
  byId("again-second-code").focus();
}

async function confirmSecond(method, code) {
  const user = client.user?.id;
  await step.complete(method, code);
  if (client.user?.id === user) byId("again").close("confirmed");
}

function showForm(name) {
  for (const each of ["again-form", "again-second"]) byId(each).hidden = each !== name;
}
