/* The dialog that asks for the password again, and for the second step if the account has one. */

import { byId, clearForm, onSubmit, openDialog } from "./forms.js";
import { offerStep, onSecondStep } from "./second-step.js";

let client = null;
let step = null;

/** Prepare the dialog. */
export function startAgain(clientOfPage) {
  client = clientOfPage;
  onSubmit(byId("again-form"), confirmPassword, { places: { invalid_credentials: "again-password" } });
  onSecondStep("again-second", confirmSecond);
  byId("again-second").querySelector("[data-cancel-too]").onclick = () => byId("again").close();
}

/** Do `action`. If it requires a recent sign-in, ask for the password first, and then do it. */
export async function withRecentPassword(action) {
  try {
    return await action();
  } catch (error) {
    if (error.code !== "reauthentication_required") throw error;
  }
  clearAgain();
  const closed = openDialog(byId("again"));
  byId("again-password").focus();
  await closed;
  const isConfirmed = byId("again").returnValue === "confirmed";
  clearAgain();
  if (!isConfirmed) throw Object.assign(new Error("cancelled"), { isCancelled: true });
  return action();
}

export function clearAgain() {
  step = null;
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
