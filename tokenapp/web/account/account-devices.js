/* The list of devices on which the user is signed in, and the buttons that sign them out. */

import { call, serviceTime } from "./account-calls.js";
import { byId, disable, openDialog, showMessage } from "./account-forms.js";
import { formatAge, formatDay, messageFor, timeElement } from "./account-words.js";

const PAGE_SIZE = 10;
const MAX_PAGE = 200;
const list = byId("devices");
let cursor = null;
let current = null;
let version = 0;

/** Set up the list. `withRecentPassword(action)` asks for the password if the action requires it. */
export function startDevices(client, { withRecentPassword, showConnection }) {
  const guard = (work, options) => () => attempt(work, showConnection, options);
  list.addEventListener("click", (event) => {
    const end = event.target.closest(".end:not([aria-disabled=true])");
    if (end) guard(() => endOne(client, end, withRecentPassword))();
  });
  byId("devices-more").onclick = guard(() => showMore(client));
  byId("end-others").onclick = guard(() => endOthers(client, withRecentPassword));
  return { load: guard(() => load(client), { isAutomatic: true }), clear, updateTimes };
}

async function load(client) {
  const isFirst = !list.children.length;
  const expected = (version += 1);
  byId("devices-waiting").hidden = !isFirst;
  try {
    const shown = Math.min(Math.max(PAGE_SIZE, list.children.length), MAX_PAGE);
    const page = await call(client, "GET", `/api/sessions?limit=${shown}`);
    const found = page.items.find((item) => item.current) ?? (await findCurrent(client, page));
    if (expected !== version) return; // the list changed during the request, so this response is out of date
    current = found;
    const focused = document.activeElement?.closest?.(".device")?.dataset.id;
    list.replaceChildren(...(current ? [rowOf(current)] : []));
    append(page);
    if (focused) (rowById(focused)?.querySelector(".end:not([hidden])") ?? byId("devices-title")).focus();
  } finally {
    byId("devices-waiting").hidden = true;
  }
}

/** Find this device among those that are not on the first page. */
async function findCurrent(client, page) {
  if (!page.nextCursor) return null;
  const more = await call(client, "GET", `/api/sessions?limit=${MAX_PAGE}&cursor=${page.nextCursor}`);
  return more.items.find((item) => item.current) ?? null;
}

async function showMore(client) {
  const expected = (version += 1);
  const page = await call(client, "GET", `/api/sessions?limit=${PAGE_SIZE}&cursor=${cursor}`);
  if (expected !== version) return;
  append(page)[0]?.querySelector("h3").focus();
}

async function endOne(client, end, withRecentPassword) {
  const { id } = end.closest(".device").dataset;
  const name = end.closest(".device").querySelector(".title").textContent;
  disable(end, true);
  try {
    await withRecentPassword(() => call(client, "DELETE", `/api/sessions/${id}`));
  } catch (error) {
    disable(end, false);
    if (error.code !== "session_not_found") throw error;
  }
  version += 1;
  const row = rowById(id); // looked up again, because the list may have been reloaded while the dialog was open
  const next = (row?.nextElementSibling ?? row?.previousElementSibling)?.querySelector(".end:not([hidden])");
  row?.remove();
  updateControls();
  (next?.isConnected ? next : byId("devices-title")).focus();
  showMessage(byId("devices-done"), `${name} is signed out.`);
}

async function endOthers(client, withRecentPassword) {
  let isSure = false;
  byId("sure-yes").onclick = () => {
    isSure = true;
    byId("sure").close();
  };
  await openDialog(byId("sure"));
  if (!isSure) return;
  await withRecentPassword(() => call(client, "DELETE", "/api/sessions?keep=current"));
  await load(client);
  byId("devices-title").focus();
  showMessage(byId("devices-done"), "All your other devices are signed out.");
}

/** Do `work` and show its errors. If it is automatic, the banner alone reports connection errors. */
async function attempt(work, showConnection, { isAutomatic = false } = {}) {
  showMessage(byId("devices-done"));
  showMessage(byId("devices-problem"));
  try {
    await work();
    showConnection(null);
  } catch (error) {
    if (error.isCancelled || (showConnection(error) && isAutomatic)) return;
    showMessage(byId("devices-problem"), messageFor(error));
  }
}

function clear() {
  version += 1;
  list.replaceChildren();
  cursor = current = null;
  for (const id of ["devices-done", "devices-problem"]) showMessage(byId(id));
  for (const id of ["devices-empty", "devices-more", "end-others"]) byId(id).hidden = true;
}

function append(page) {
  const rows = page.items.filter((item) => item.id !== current?.id).map(rowOf);
  list.append(...rows);
  cursor = page.nextCursor;
  updateControls();
  return rows;
}

/** Show or hide the buttons and the text for an empty list, according to the number of devices. */
function updateControls() {
  const others = list.querySelectorAll(".device:not(.current)").length;
  byId("devices-more").hidden = !cursor;
  byId("end-others").hidden = !others && !cursor;
  byId("devices-empty").hidden = Boolean(others || cursor || !list.children.length);
}

function rowById(id) {
  return [...list.children].find((row) => row.dataset.id === id);
}

function rowOf(item) {
  const row = byId("device").content.cloneNode(true).firstElementChild;
  const end = row.querySelector(".end");
  const opened = new Date(item.createdAt);
  row.dataset.id = item.id;
  row.dataset.seen = item.lastSeenAt;
  row.dataset.address = item.ipAddress ?? "";
  row.classList.toggle("current", item.current);
  row.querySelector("use").setAttribute("href", `#i-${iconOf(item)}`);
  row.querySelector(".title").textContent = item.device;
  row.querySelector(".badge").hidden = !item.current;
  row.querySelector(".opened").append("Signed in on ", timeElement(opened, formatDay(opened)));
  end.hidden = item.current;
  end.setAttribute("aria-label", `Sign out ${item.device}`);
  showSeen(row);
  return row;
}

function showSeen(row) {
  const { seen, address } = row.dataset;
  const date = new Date(seen);
  const isCurrent = row.classList.contains("current");
  const time = timeElement(date, isCurrent ? "Active now" : `Last seen ${formatAge(date, serviceTime())}`);
  row.querySelector(".seen").replaceChildren(time, address && ` · ${address}`);
}

/** Update the relative times, such as "2 hours ago". */
function updateTimes() {
  for (const row of list.children) showSeen(row);
}

function iconOf({ device, userAgent }) {
  if (/iPhone|iPad|iPod|Android|Mobile/i.test(`${device} ${userAgent}`)) return "phone";
  return /Windows|macOS|Linux|ChromeOS|Ubuntu|Fedora|BSD/i.test(device) ? "computer" : "program";
}
