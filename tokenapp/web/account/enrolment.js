/* The form that sets up an authenticator app. */

import { byId, clearForm, onSubmit } from "./forms.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const ATTRIBUTES = ["viewBox", "d", "transform", "fill", "stroke"];

/** Let a form confirm an app with `confirm(code)`. `cancel` is called after the button for that. */
export function onEnrol(name, cancel, confirm) {
  const form = byId(name);
  onSubmit(form, ({ code }) => confirm(code), { places: { invalid_code: `${name}-code` } });
  form.querySelector("[data-cancel]").onclick = () => cancel();
}

/** Show the secret of a new app, or remove it. */
export function showEnrolment(name, enrolment) {
  const form = byId(name);
  clearForm(form);
  form.hidden = !enrolment;
  form.querySelector(".totp-secret").textContent = enrolment?.secret.replace(/.{4}(?=.)/g, "$& ") ?? "";
  form.querySelector(".qr").replaceChildren(...(enrolment ? [picture(enrolment.qrSvg)] : []));
}

/** Create the picture from the paths of the text alone. With Trusted Types, no text may become markup. */
function picture(svg) {
  const [root, ...paths] = [...svg.matchAll(/<(svg|path)\b([^>]*)>/g)].map(([, name, rest]) => {
    const element = document.createElementNS(NAMESPACE, name);
    for (const [, key, value] of rest.matchAll(/([\w:]+)="([^"]*)"/g)) {
      if (ATTRIBUTES.includes(key)) element.setAttribute(key, value);
    }
    return element;
  });
  root.append(...paths);
  return root;
}
