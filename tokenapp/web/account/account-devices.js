/* The list of devices: who is signed in where, and the end of that. */

import { call, serviceTime } from "./account-calls.js";
import { byId, disable, openDialog, say } from "./account-forms.js";
import { ago, dayOf, sentenceOf, timeElement } from "./account-words.js";

const PAGE = 10;
const LONGEST_PAGE = 200;
const list = byId("devices");
let cursor = null;
let current = null;
let looks = 0;

/** Make the list do its work; `fresh(action)` asks for the password where an action needs that. */
export function startDevices(client, { fresh, reached }) {
  const guard = (work, how) => () => attempt(work, reached, how);
  list.addEventListener("click", (event) => {
    const end = event.target.closest(".end:not([aria-disabled=true])");
    if (end) guard(() => endOne(client, end, fresh))();
  });
  byId("devices-more").onclick = guard(() => showMore(client));
  byId("end-others").onclick = guard(() => endOthers(client, fresh));
  return { load: guard(() => load(client), { isOwnIdea: true }), clear, retime };
}

async function load(client) {
  const isFirst = !list.children.length;
  const look = (looks += 1);
  byId("devices-waiting").hidden = !isFirst;
  try {
    const shown = Math.min(Math.max(PAGE, list.children.length), LONGEST_PAGE);
    const page = await call(client, "GET", `/api/sessions?limit=${shown}`);
    const found = page.items.find((item) => item.current) ?? (await findCurrent(client, page));
    if (look !== looks) return; // what was seen has been overtaken by what was done since
    current = found;
    const focused = document.activeElement?.closest?.(".device")?.dataset.id;
    list.replaceChildren(...(current ? [rowOf(current)] : []));
    append(page);
    if (focused) (rowById(focused)?.querySelector(".end:not([hidden])") ?? byId("devices-title")).focus();
  } finally {
    byId("devices-waiting").hidden = true;
  }
}

/** Look for this device among those that signed in before the first page's. */
async function findCurrent(client, page) {
  if (!page.nextCursor) return null;
  const more = await call(client, "GET", `/api/sessions?limit=${LONGEST_PAGE}&cursor=${page.nextCursor}`);
  return more.items.find((item) => item.current) ?? null;
}

async function showMore(client) {
  const look = (looks += 1);
  const page = await call(client, "GET", `/api/sessions?limit=${PAGE}&cursor=${cursor}`);
  if (look !== looks) return;
  append(page)[0]?.querySelector("h3").focus();
}

async function endOne(client, end, fresh) {
  const { id } = end.closest(".device").dataset;
  const name = end.closest(".device").querySelector(".title").textContent;
  disable(end, true);
  try {
    await fresh(() => call(client, "DELETE", `/api/sessions/${id}`));
  } catch (error) {
    disable(end, false);
    if (error.code !== "session_not_found") throw error;
  }
  looks += 1;
  const row = rowById(id); // another element, perhaps: the list may have been loaded anew behind the dialog
  const next = (row?.nextElementSibling ?? row?.previousElementSibling)?.querySelector(".end:not([hidden])");
  row?.remove();
  settle();
  (next?.isConnected ? next : byId("devices-title")).focus();
  say(byId("devices-done"), `${name} is signed out.`);
}

async function endOthers(client, fresh) {
  let isSure = false;
  byId("sure-yes").onclick = () => {
    isSure = true;
    byId("sure").close();
  };
  await openDialog(byId("sure"));
  if (!isSure) return;
  await fresh(() => call(client, "DELETE", "/api/sessions?keep=current"));
  await load(client);
  byId("devices-title").focus();
  say(byId("devices-done"), "All your other devices are signed out.");
}

/** Do `work`; tell what keeps it from being done. Of what nobody asked for, the banner tells enough. */
async function attempt(work, reached, { isOwnIdea = false } = {}) {
  say(byId("devices-done"));
  say(byId("devices-problem"));
  try {
    await work();
    reached(null);
  } catch (error) {
    if (error.isOver || (reached(error) && isOwnIdea)) return;
    say(byId("devices-problem"), sentenceOf(error));
  }
}

function clear() {
  looks += 1;
  list.replaceChildren();
  cursor = current = null;
  for (const id of ["devices-done", "devices-problem"]) say(byId(id));
  for (const id of ["devices-empty", "devices-more", "end-others"]) byId(id).hidden = true;
}

function append(page) {
  const rows = page.items.filter((item) => item.id !== current?.id).map(rowOf);
  list.append(...rows);
  cursor = page.nextCursor;
  settle();
  return rows;
}

/** Show what goes with as many devices as there are now. */
function settle() {
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
  row.querySelector("use").setAttribute("href", `#i-${kindOf(item)}`);
  row.querySelector(".title").textContent = item.device;
  row.querySelector(".badge").hidden = !item.current;
  row.querySelector(".opened").append("Signed in on ", timeElement(opened, dayOf(opened)));
  end.hidden = item.current;
  end.setAttribute("aria-label", `Sign out ${item.device}`);
  showSeen(row);
  return row;
}

function showSeen(row) {
  const { seen, address } = row.dataset;
  const date = new Date(seen);
  const isCurrent = row.classList.contains("current");
  const time = timeElement(date, isCurrent ? "Active now" : `Last seen ${ago(date, serviceTime())}`);
  row.querySelector(".seen").replaceChildren(time, address && ` · ${address}`);
}

/** Bring "2 hours ago" up to date. */
function retime() {
  for (const row of list.children) showSeen(row);
}

function kindOf({ device, userAgent }) {
  if (/iPhone|iPad|iPod|Android|Mobile/i.test(`${device} ${userAgent}`)) return "phone";
  return /Windows|macOS|Linux|ChromeOS|Ubuntu|Fedora|BSD/i.test(device) ? "computer" : "program";
}
