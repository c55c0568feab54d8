/* The form for the second step: a code of an app, a recovery code, or a passkey. */

import { byId, clearForm, onSubmit, showMessage, whileBusy } from "./forms.js";
import { messageFor } from "./texts.js";

const LONGEST_TOTP = 8;
const offered = {};

/** Let a form complete second steps with `complete(method, code)`. */
export function onSecondStep(name, complete) {
  const form = byId(name);
  const passkey = byId(`${name}-passkey`);
  onSubmit(form, ({ code }) => complete(methodOf(code, offered[name]), code), {
    places: { invalid_code: `${name}-code` },
  });
  if (passkey) onPasskey(passkey, byId(`${name}-problem`), () => complete("passkey"));
}

/** Let a button do `work` with a passkey, and show its errors in `problem`. */
export function onPasskey(button, problem, work) {
  const attempt = async () => {
    showMessage(problem);
    try {
      await work();
    } catch (error) {
      showMessage(problem, messageFor(passkeyError(error)));
    }
  };
  button.onclick = () => whileBusy(button, attempt);
}

/** Show the methods of a step in a form. */
export function offerStep(name, { methods }) {
  clearForm(byId(name));
  offered[name] = methods;
  const passkey = byId(`${name}-passkey`);
  if (passkey) passkey.hidden = !methods.includes("passkey") || !hasPasskeys();
}

/** Whether this browser can use passkeys. */
export function hasPasskeys() {
  return Boolean(globalThis.PublicKeyCredential?.parseRequestOptionsFromJSON);
}

/** Return the error to show for one of the browser, such as that of a cancelled dialog. */
export function passkeyError(error) {
  if (error.name === "InvalidStateError") return { code: "passkey_exists" };
  return error instanceof DOMException ? { code: "passkey_cancelled" } : error;
}

/** Recovery codes are longer than the codes of apps. */
function methodOf(code, methods) {
  const isShort = [...code.replace(/[\s-]/g, "")].length <= LONGEST_TOTP;
  return isShort && methods.includes("totp") ? "totp" : "recovery_code";
}
