/* The list of devices on which the user is signed in, and the buttons that sign them out. */

import { serviceTime } from "../calls.js";
import { askIfSure, byId, disable, fromTemplate, showMessage } from "../forms.js";
import { formatAge, formatDay, text, timeElement } from "../texts.js";

const PAGE_SIZE = 10;
const MAX_PAGE = 200;
const VERSIONS = [
  ["Firefox", /\b(?:Firefox|FxiOS)\/(\d+)/],
  ["Edge", /\bEdg\w*\/(\d+)/],
  ["Opera", /\bOPR\/(\d+)/],
  ["Chrome", /\b(?:Chrome|CriOS)\/(\d+)/],
  ["Safari", /\bVersion\/(\d+(?:\.\d+)?)/],
];
const list = byId("devices-list");
let page = null;
let cursor = null;
let current = null;
let version = 0;

export const devices = { name: "devices", start, load, clear, render };

function start(startedPage) {
  page = startedPage;
  const act = (work) => page.attempt("devices", work);
  list.addEventListener("click", (event) => {
    const end = event.target.closest(".end:not([aria-disabled=true])");
    if (end) act(() => endOne(end));
  });
  byId("devices-more").onclick = () => act(showMore);
  byId("end-others").onclick = () => act(endOthers);
}

function load() {
  return page.attempt("devices", loadList, { isAutomatic: true });
}

async function loadList() {
  const isFirst = !list.children.length;
  const expected = (version += 1);
  byId("devices-waiting").hidden = !isFirst;
  try {
    const shown = Math.min(Math.max(PAGE_SIZE, list.children.length), MAX_PAGE);
    const part = await page.call("GET", `/api/sessions?limit=${shown}`);
    const found = part.items.find((item) => item.current) ?? (await findCurrent(part));
    if (expected !== version) return; // the list changed during the request, so this response is out of date
    current = found;
    const focused = document.activeElement?.closest?.(".device")?.dataset.id;
    list.replaceChildren(...(current ? [rowOf(current)] : []));
    append(part);
    if (focused) (rowById(focused)?.querySelector(".end:not([hidden])") ?? byId("devices-title")).focus();
  } finally {
    byId("devices-waiting").hidden = true;
  }
}

/** Find this device among those that are not in the first part of the list. */
async function findCurrent({ nextCursor }) {
  if (!nextCursor) return null;
  const more = await page.call("GET", `/api/sessions?limit=${MAX_PAGE}&cursor=${nextCursor}`);
  return more.items.find((item) => item.current) ?? null;
}

async function showMore() {
  const expected = (version += 1);
  const part = await page.call("GET", `/api/sessions?limit=${PAGE_SIZE}&cursor=${cursor}`);
  if (expected !== version) return;
  append(part)[0]?.querySelector("h3").focus();
}

async function endOne(end) {
  const { id } = end.closest(".device").dataset;
  const device = end.closest(".device").querySelector(".title").textContent;
  disable(end, true);
  try {
    await page.withRecentPassword(() => page.call("DELETE", `/api/sessions/${id}`));
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
  showMessage(byId("devices-done"), text("devices.ended", { device }));
}

async function endOthers() {
  if (!(await askIfSure("devices"))) return;
  await page.withRecentPassword(() => page.call("DELETE", "/api/sessions?keep=current"));
  await loadList();
  byId("devices-title").focus();
  showMessage(byId("devices-done"), text("devices.othersEnded"));
}

function clear() {
  version += 1;
  list.replaceChildren();
  cursor = current = null;
  for (const id of ["devices-done", "devices-problem"]) showMessage(byId(id));
  for (const id of ["devices-empty", "devices-more", "end-others"]) byId(id).hidden = true;
}

function append(part) {
  const rows = part.items.filter((item) => item.id !== current?.id).map(rowOf);
  list.append(...rows);
  cursor = part.nextCursor;
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
  const row = fromTemplate("device");
  const end = row.querySelector(".end");
  row.dataset.id = item.id;
  row.dataset.device = item.device;
  row.dataset.opened = item.createdAt;
  row.dataset.seen = item.lastSeenAt;
  row.dataset.address = item.ipAddress ?? "";
  row.dataset.browser = browserOf(item);
  row.classList.toggle("current", item.current);
  row.querySelector("use").setAttribute("href", `#i-${iconOf(item)}`);
  row.dataset.unproved = item.unprovedAt ?? "";
  row.querySelector(".badge").hidden = !item.current;
  row.querySelector(".bound").hidden = !item.boundAt;
  end.hidden = item.current;
  showTexts(row);
  return row;
}

function showTexts(row) {
  const { device, opened, seen, address, browser, unproved } = row.dataset;
  const name = nameOf(device);
  row.querySelector(".title").textContent = name;
  row.querySelector(".end").setAttribute("aria-label", text("devices.endOne", { device: name }));
  const isCurrent = row.classList.contains("current");
  const age = formatAge(new Date(seen), serviceTime());
  const seenText = isCurrent ? text("devices.active") : text("devices.seen", { age });
  const openedText = text("devices.opened", { day: formatDay(new Date(opened)) });
  fillLine(row.querySelector(".seen"), timeElement(new Date(seen), seenText), address);
  fillLine(row.querySelector(".opened"), timeElement(new Date(opened), openedText), browser);
  const warning = unproved && text("devices.unproved", { day: formatDay(new Date(unproved)) });
  showMessage(row.querySelector(".unproved"), warning);
}

/** Show a time and, if there is one, a detail that is not translated. */
function fillLine(line, time, detail) {
  const isolated = document.createElement("bdi");
  isolated.translate = false;
  isolated.textContent = detail;
  line.replaceChildren(time, ...(detail ? [" · ", isolated] : []));
}

/** Update the relative times, such as "2 hours ago", and the language. */
function render() {
  for (const row of list.children) showTexts(row);
}

/** Return the name of a device. The service composes it in English: "Firefox on macOS". */
function nameOf(device) {
  if (device === "Unknown device") return text("devices.unknown");
  const [browser, system] = device.split(/ on (.*)/s);
  return system ? text("devices.name", { browser, system }) : device;
}

/** Return the browser with its version, or nothing for programs. */
function browserOf({ device, userAgent }) {
  const [browser, pattern] = VERSIONS.find(([name]) => device.includes(name)) ?? [];
  const found = pattern?.exec(userAgent ?? "");
  return found ? `${browser} ${found[1]}` : "";
}

function iconOf({ device, userAgent }) {
  if (/iPhone|iPad|iPod|Android|Mobile/i.test(`${device} ${userAgent}`)) return "phone";
  return /Windows|macOS|Linux|ChromeOS|Ubuntu|Fedora|BSD/i.test(device) ? "computer" : "program";
}
