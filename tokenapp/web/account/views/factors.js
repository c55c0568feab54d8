/* The authenticator apps and recovery codes of the user. */

import { showCodes } from "../codes.js";
import { onEnrol, showEnrolment } from "../enrolment.js";
import { askIfSure, byId, fromTemplate, showFieldError, showMessage, whileBusy } from "../forms.js";
import { formatDay, text, timeElement } from "../texts.js";

let page = null;
let state = null;
let enrolment = null;

export const factors = { name: "factors", start, load, clear, render };

function start(startedPage) {
  page = startedPage;
  const act = (work) => page.attempt("factors", work);
  byId("factors-add").onclick = ({ target }) => whileBusy(target, () => act(add));
  byId("factors-renew").onclick = () => act(renew);
  byId("factors-list").addEventListener("click", ({ target }) => {
    const button = target.closest(".end");
    if (button) act(() => remove(button.dataset.id));
  });
  // It does not wait, because users may take long to enter their password again.
  onEnrol("enrol", cancel, (code) => {
    act(() => confirm(code));
  });
}

function load() {
  const show = async () => {
    state = await page.call("GET", "/api/me/factors");
    render();
  };
  return page.attempt("factors", show, { isAutomatic: true });
}

function clear() {
  state = null;
  show(null);
  byId("factors-list").replaceChildren();
  byId("factors-codes").hidden = true;
  for (const id of ["factors-done", "factors-problem"]) showMessage(byId(id));
}

function render() {
  if (!state) return;
  byId("factors-list").replaceChildren(...state.items.map(itemOf));
  const count = state.recoveryCodesLeft;
  byId("factors-codes").hidden = !(state.items.length || count);
  byId("factors-left").textContent = text("codes.left", { count });
}

function itemOf({ id, createdAt }) {
  const item = fromTemplate("factor");
  const added = new Date(createdAt);
  const [before, after] = text("factors.added", { day: "\n" }).split("\n");
  item.querySelector(".seen").append(before, timeElement(added, formatDay(added)), after);
  item.querySelector(".end").dataset.id = id;
  return item;
}

async function add() {
  show(await page.withRecentPassword(() => page.call("POST", "/api/me/factors/totp")));
  byId("enrol-code").focus();
}

function show(started) {
  enrolment = started;
  showEnrolment("enrol", started);
  byId("factors-add").hidden = Boolean(started);
}

function cancel() {
  show(null);
  byId("factors-add").focus();
}

async function confirm(code) {
  const path = `/api/me/factors/totp/${enrolment.id}/confirm`;
  let codes;
  try {
    codes = (await page.withRecentPassword(() => page.call("POST", path, { code }))).recoveryCodes;
  } catch (error) {
    if (error.code !== "invalid_code") throw error;
    showFieldError(byId("enrol-code"), text("fields.invalid_code"));
    return;
  }
  show(null);
  await showCodes(codes);
  await changed("factors.done");
}

async function remove(id) {
  if (!(await askIfSure("factors"))) return;
  await page.withRecentPassword(() => page.call("DELETE", `/api/me/factors/${id}`));
  await changed("factors.removed");
}

async function renew() {
  if (!(await askIfSure("codes"))) return;
  const { recoveryCodes } = await page.withRecentPassword(() => page.call("POST", "/api/me/recovery-codes"));
  await showCodes(recoveryCodes);
  await changed("codes.renewed");
}

async function changed(message) {
  await page.reload();
  showMessage(byId("factors-done"), text(message));
  byId("factors-title").focus();
}
