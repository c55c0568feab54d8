/* Views that begin with a mail: ask for it, take its link, and use the token of the link after a click. */

import { ApiError } from "../client/tokenapp.js";
import { callAsNobody } from "./calls.js";
import { byId, clearForm, onSubmit, showFieldError, showMessage } from "./forms.js";
import { text } from "./texts.js";

const LINK = /^\s*(?:\S*#(register|reset|email|undo)=)?([\w-]{43})\s*$/;

/** Return the view of the links `#NAME=TOKEN`. Nothing is sent before a click.
 *
 * `use(page, token, values)` redeems the token. If it returns a text, the view ends with it. `ask` is the path that
 * mails a link, and `places` are those of `onSubmit`.
 */
export function linkView(name, { use, ask, places }) {
  let page = null;
  let token = null;
  let sentTo = null;
  let isOpen = false;
  const section = byId(`view-${name}`);
  const forms = () => section.querySelectorAll("form");
  const formOf = (step) => section.querySelector(`[data-step=${step}]`);

  function start(startedPage) {
    page = startedPage;
    if (formOf("ask")) onSubmit(formOf("ask"), requestMail, { places: { address_rejected: `${name}-email` } });
    onSubmit(formOf("sent"), paste);
    onSubmit(formOf("use"), redeem, { places });
    for (const again of section.querySelectorAll("[data-again]")) again.onclick = () => show("ask");
  }

  function open(value) {
    isOpen = true;
    clearSecrets();
    token = value;
    if (value) show("use");
    else show(formOf("ask") ? "ask" : "sent");
  }

  function show(step) {
    for (const form of forms()) form.hidden = form.dataset.step !== step;
    page.setView(name);
    (formOf(step)?.querySelector("h2, input") ?? byId(`${name}-title`)).focus();
  }

  async function requestMail({ email }) {
    await callAsNobody(page.client, ask, { email });
    sentTo = email;
    render();
    show("sent");
  }

  /** Go the way of the link itself, which another view may belong to. */
  function paste({ link }) {
    const [, kind = name, pasted] = LINK.exec(link) ?? [];
    if (pasted) location.hash = `${kind}=${pasted}`;
    else showFieldError(byId(`${name}-link`), text("mail.wrongLink"));
  }

  async function redeem(values) {
    const message = await use(page, token, values);
    if (!message) return;
    token = null;
    show("done");
    showMessage(byId(`${name}-done`), message);
  }

  function clearSecrets() {
    token = null;
    for (const form of forms()) clearForm(form, { keep: ["email"] });
    for (const message of section.querySelectorAll(".done")) showMessage(message);
  }

  function clear() {
    clearSecrets();
    sentTo = null;
    if (formOf("ask")) clearForm(formOf("ask"));
    // Otherwise a link to this view would change nothing, and not open it again. The address may also be that of a click
    // that the page has not handled yet.
    if (isOpen && location.hash === `#${name}`) history.replaceState(null, "", location.pathname + location.search);
    isOpen = false;
  }

  function render() {
    if (sentTo) byId(`${name}-sent`).textContent = sentText(sentTo);
  }

  return { name, start, open, clear, render };
}

/** Return what users do after a mail was requested. The service does not tell whether it sends one. */
export function sentText(address) {
  return text("mail.sent", { address: `\u2068${address}\u2069` }); // isolates the direction of the address
}

/** Take over the session that the service has just opened, with its cookie. */
export async function adoptSession({ client, leave }) {
  await client.restore();
  if (client.state === "signed-out") throw new ApiError(401, "cookies_blocked", "The browser did not keep the cookie.");
  leave();
}

/** Sign out the user of this browser, who may not be known yet. */
export async function discardSession({ client }) {
  const user = await client.restore().catch(() => null);
  if (user) await client.signOut().catch(() => null);
}
