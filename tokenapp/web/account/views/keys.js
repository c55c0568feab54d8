/* The access keys of the user, the form for a new one, and its text, which is shown only once. */

import { serviceTime } from "../calls.js";
import { askIfSure, byId, clearForm, disable, fromTemplate, onSubmit, openDialog } from "../forms.js";
import { showFieldError, showMessage } from "../forms.js";
import { formatAge, formatDay, text, timeElement } from "../texts.js";

const PATH = "/api/me/access-keys";
const SCOPE = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$/;
const MAX_SCOPES = 20;
const form = byId("keys");
const list = byId("keys-list");
const dialog = byId("new-key");
let page = null;
let items = [];
let version = 0;
let isCreating = false;

export const keys = { name: "keys", start, load, clear, render };

function start(startedPage) {
  page = startedPage;
  onSubmit(form, submit);
  list.addEventListener("click", (event) => {
    const end = event.target.closest(".end:not([aria-disabled=true])");
    if (end) page.attempt("keys", () => revoke(end));
  });
  byId("new-key-copy").onclick = copyKey;
  addEventListener("hashchange", hideKey);
  addEventListener("pagehide", hideKey); // the back/forward cache keeps the page
}

function load() {
  const loadList = async () => {
    const expected = (version += 1);
    const found = await page.call("GET", PATH);
    if (expected === version) showList(found.items);
  };
  return page.attempt("keys", loadList, { isAutomatic: true });
}

function clear() {
  version += 1;
  hideKey();
  items = [];
  list.replaceChildren();
  byId("keys-empty").hidden = true;
  form.reset();
  clearForm(form);
  for (const id of ["keys-done", "keys-problem"]) showMessage(byId(id));
}

/** Update the relative times and the language. */
function render() {
  for (const [index, row] of [...list.children].entries()) showTexts(row, items[index]);
}

function submit({ keyName, life, scopes: typed }) {
  const name = keyName.trim();
  const scopes = typed.split(/\s+/).filter(Boolean);
  if (scopes.length > MAX_SCOPES || !scopes.every((each) => SCOPE.test(each))) {
    showFieldError(byId("keys-scopes"), text("keys.wrongScopes"));
  }
  if (!name) showFieldError(byId("keys-name"), text("empty.keyName"));
  if (isCreating || form.querySelector("[aria-invalid]")) return;
  isCreating = true;
  // It does not wait, because users may take long to enter their password again.
  page.attempt("keys", () => create({ name, scopes, expiresIn: Number(life) })).finally(() => {
    isCreating = false;
  });
}

async function create(wanted) {
  const { key, ...item } = await page.withRecentPassword(() => page.call("POST", PATH, wanted));
  version += 1;
  showList([item, ...items]);
  form.reset();
  await showKey(item, key);
}

async function showKey({ name }, key) {
  byId("new-key-title").textContent = text("keys.created", { key: isolate(name) });
  byId("new-key-text").value = key;
  byId("new-key-curl").textContent =
    `curl -X POST -H "Authorization: Bearer $TOKENAPP_KEY" ${page.client.baseUrl}/api/token`;
  const closed = openDialog(dialog);
  byId("new-key-copy").focus();
  await closed;
  hideKey();
}

/** Remove the key from the page. */
function hideKey() {
  byId("new-key-text").value = "";
  byId("new-key-copied").textContent = "";
  dialog.close();
}

async function copyKey() {
  const field = byId("new-key-text");
  try {
    await navigator.clipboard.writeText(field.value);
    byId("new-key-copied").textContent = text("keys.copied");
  } catch {
    field.select();
    byId("new-key-copied").textContent = text("keys.copyFailed"); // the browser denies it, or has no clipboard
  }
}

async function revoke(end) {
  const { id } = end.closest(".key").dataset;
  const { name } = items.find((item) => item.id === id);
  if (!(await askIfSure("keys"))) return;
  disable(end, true);
  try {
    await page.call("DELETE", `${PATH}/${id}`);
  } catch (error) {
    disable(end, false);
    if (error.code !== "access_key_not_found") throw error;
  }
  version += 1;
  showList(items.filter((item) => item.id !== id));
  byId("keys-title").focus();
  showMessage(byId("keys-done"), text("keys.revoked", { key: isolate(name) }));
}

function showList(found) {
  const focused = document.activeElement?.closest?.(".key")?.dataset.id;
  items = found;
  list.replaceChildren(...items.map(rowOf));
  byId("keys-empty").hidden = items.length > 0;
  const row = focused && [...list.children].find(({ dataset }) => dataset.id === focused);
  if (focused) (row?.querySelector(".end") ?? byId("keys-title")).focus();
}

function rowOf(item) {
  const row = fromTemplate("key");
  row.dataset.id = item.id;
  row.querySelector(".title").textContent = item.name;
  showMessage(row.querySelector(".scopes"), item.scopes.join(" "));
  showTexts(row, item);
  return row;
}

function showTexts(row, { name, createdAt, expiresAt, lastUsedAt }) {
  const [created, expires, used] = [createdAt, expiresAt, lastUsedAt].map((each) => each && new Date(each));
  const expiry = text(expires <= serviceTime() ? "keys.expired" : "keys.expires", { day: formatDay(expires) });
  const usage = used && timeElement(used, text("keys.used", { age: formatAge(used, serviceTime()) }));
  row.querySelector(".used").replaceChildren(usage ?? text("keys.unused"));
  const opened = timeElement(created, text("keys.made", { day: formatDay(created) }));
  row.querySelector(".life").replaceChildren(opened, " · ", timeElement(expires, expiry));
  row.querySelector(".end").setAttribute("aria-label", text("keys.revokeOne", { key: name }));
}

/** Return a name that does not change the direction of the text around it. */
function isolate(name) {
  return `\u2068${name}\u2069`;
}
