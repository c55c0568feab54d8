/* The passkeys of the user: add, rename and delete. */

import { showCodes } from "../codes.js";
import { askIfSure, byId, clearForm, fromTemplate, onSubmit, openDialog, showMessage, whileBusy } from "../forms.js";
import { hasPasskeys, passkeyError } from "../second-step.js";
import { formatDay, text, timeElement } from "../texts.js";

let page = null;
let items = null;
let renamed = null;

export const passkeys = { name: "passkeys", start, load, clear, render };

function start(startedPage) {
  page = startedPage;
  byId("passkeys-add").hidden = !hasPasskeys();
  byId("passkeys-none").hidden = hasPasskeys();
  byId("passkeys-add").onclick = ({ target }) => whileBusy(target, () => page.attempt("passkeys", add));
  byId("passkeys-list").addEventListener("click", ({ target }) => {
    const item = items?.find(({ id }) => id === target.closest("[data-id]")?.dataset.id);
    if (!item) return;
    if (target.closest(".end")) page.attempt("passkeys", () => remove(item));
    if (target.closest(".rename")) askForName(item);
  });
  onSubmit(byId("rename-form"), rename);
}

function load() {
  const show = async () => {
    items = (await page.call("GET", "/api/me/passkeys")).passkeys;
    render();
  };
  return page.attempt("passkeys", show, { isAutomatic: true });
}

function clear() {
  items = null;
  renamed = null;
  clearForm(byId("rename-form"));
  byId("passkeys-list").replaceChildren();
  for (const id of ["passkeys-done", "passkeys-problem"]) showMessage(byId(id));
}

function render() {
  if (items) byId("passkeys-list").replaceChildren(...items.map(elementOf));
}

function elementOf({ id, name, createdAt, lastUsedAt }) {
  const element = fromTemplate("passkey");
  const time = new Date(lastUsedAt ?? createdAt);
  const [before, after] = text(lastUsedAt ? "passkeys.used" : "passkeys.added", { day: "\n" }).split("\n");
  element.dataset.id = id;
  element.querySelector(".title").textContent = name;
  element.querySelector(".seen").append(before, timeElement(time, formatDay(time)), after);
  element.querySelector(".end").setAttribute("aria-label", text("passkeys.removeOne", { name }));
  element.querySelector(".rename").setAttribute("aria-label", text("passkeys.renameOne", { name }));
  return element;
}

async function add() {
  const path = "/api/me/passkeys";
  const { publicKey } = await page.withRecentPassword(() => page.call("POST", `${path}/options`));
  const credential = await create(publicKey);
  const { signal, recoveryCodes } = await page.call("POST", path, { credential });
  await tellAuthenticators(signal);
  await showCodes(recoveryCodes);
  await changed("passkeys.done");
}

async function create(options) {
  try {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    return (await navigator.credentials.create({ publicKey })).toJSON();
  } catch (error) {
    throw passkeyError(error);
  }
}

async function remove({ id }) {
  if (!(await askIfSure("passkeys"))) return;
  const { signal } = await page.withRecentPassword(() => page.call("DELETE", `/api/me/passkeys/${id}`));
  await tellAuthenticators(signal);
  await changed("passkeys.removed");
}

async function askForName(item) {
  renamed = item.id;
  clearForm(byId("rename-form"));
  byId("rename-name").value = item.name;
  const closed = openDialog(byId("rename"));
  byId("rename-name").select();
  await closed;
}

async function rename({ name }) {
  await page.call("PATCH", `/api/me/passkeys/${renamed}`, { name });
  byId("rename").close();
  await changed("passkeys.renamed");
}

/** Let the authenticators remove passkeys that were deleted here. */
async function tellAuthenticators(signal) {
  await PublicKeyCredential.signalAllAcceptedCredentials?.(signal).catch(() => null);
}

async function changed(message) {
  await page.reload();
  showMessage(byId("passkeys-done"), text(message));
  byId("passkeys-title").focus();
}
