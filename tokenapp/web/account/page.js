/* The page around the views: shows what belongs to the client's state, and the messages that all views share. */

import { clearAgain, startAgain, withRecentPassword } from "./again.js";
import { call } from "./calls.js";
import { byId, disable, isTyped, showMessage } from "./forms.js";
import { readReturnUrl, wasJustThere } from "./return-to.js";
import { startTabs } from "./tabs.js";
import { isUnreachable, messageFor, setLanguage, text, translate, unreachableMessage } from "./texts.js";

const PATIENCE = 8000;
const RELOAD_AFTER = 30_000;
const MINUTE = 60_000;

let client = null;
let views = [];
let returnUrl = null;
let shown = null;
let opened = null;
let entered = null;
let isRestored = false;
let shownUser = null;
let loadedAt = 0;

/** Start the views whose sections the page has, and show what belongs to the client's state.
 *
 * A view is an object with a `name`, a method `start(page)`, and any of: `load()` when a user is signed in, and again
 * when the data may be out of date; `clear()` when the user leaves; `render()` each minute and in another language;
 * `open(value)` when the address ends in `#NAME` or `#NAME=VALUE`, for views outside the account. When the page shows
 * what belongs to the client's state, its body gets `data-started`.
 */
export async function startPage(clientOfPage, allViews) {
  client = clientOfPage;
  views = allViews.filter(({ name }) => byId(`view-${name}`));
  const callService = (...request) => call(client, ...request);
  const page = { client, call: callService, attempt, withRecentPassword, reload, setView: enter, leave, goBack };
  page.setLanguage = speak;
  for (const view of views) view.start(page);
  startAgain(client);
  byId("sign-out").onclick = signOut;
  byId("banner-retry").onclick = refreshView;
  byId("unreachable-retry").onclick = refreshView;
  client.onChange(({ reason, error }) => show(reason, error));
  addEventListener("offline", () => showConnection({ status: 0 }));
  addEventListener("online", refreshView);
  addEventListener("pageshow", (event) => event.persisted && refreshView()); // restored from the back/forward cache
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && Date.now() - loadedAt > RELOAD_AFTER) refreshView();
  });
  setInterval(() => each("render"), MINUTE);
  byId("late").hidden = true;
  prepareReturn();
  setView(byId("view-loading").hidden ? "sign-in" : "loading"); // the service knows when nobody can be signed in
  startTabs(openView);
  await restore();
  document.body.dataset.started = "";
}

/** Name the page that the user came from. */
function prepareReturn() {
  returnUrl = readReturnUrl();
  if (!returnUrl) return;
  document.body.dataset.site = returnUrl.host;
  byId("sign-in-lead").dataset.text = "sign-in.leadTo";
  byId("back").hidden = false;
  byId("back").firstElementChild.href = returnUrl.href;
  translate(document);
}

/** Change the language of the page, unless another user is shown by then. */
async function speak(locale) {
  const user = shownUser;
  await setLanguage(locale);
  if (shownUser !== user) await setLanguage(null);
  each("render");
  nameDocument();
}

function each(method) {
  return Promise.all(views.map((view) => view[method]?.()));
}

/** Ask the service who is signed in. If it does not respond in time, users get a sentence and a button. */
async function restore() {
  const restored = client.restore().then(() => {
    isRestored = true;
  });
  const patience = new Promise((resolve) => setTimeout(resolve, PATIENCE));
  try {
    await Promise.race([restored, patience]);
    show(null);
  } catch (error) {
    if (isInUse()) return;
    setView("sign-in");
    showMessage(byId("sign-in-notice"), messageFor(error));
  }
}

/** Open the view that the address names. Return whether there is one. */
function openView(name, value) {
  const found = views.find((view) => view.name === name && view.open);
  if (!found) {
    if (opened && name !== "main") leave();
    return false;
  }
  opened = name;
  found.open(value);
  return true;
}

/** Show a view until it is left, or a user is signed in. */
function enter(name) {
  entered = name;
  setView(name);
}

/** Leave an opened view for the one that belongs to the client's state. */
async function leave() {
  opened = null;
  entered = null;
  if (!isRestored) {
    setView("loading");
    await restore();
  } else show(null);
}

/** Whether users are in a view that they have opened, or in a step of a sign-in, which no late response may end. */
function isInUse() {
  return opened === shown || (entered === shown && !client.user);
}

/** Show the view for the client's state. `reason` and `error` are those of the last change. */
function show(reason, error) {
  if (isInUse() && (!isRestored || reason !== "signed-in")) return;
  opened = null;
  if (client.state === "unknown") {
    if (shown === "sign-in" && isTyped(byId("sign-in"))) return;
    showMessage(byId("unreachable-text"), `${unreachableMessage()} ${text("page.unreachableAdvice")}`);
    setView("unreachable");
  } else if (client.user) showAccount();
  else showSignIn(reason, error);
}

function showAccount() {
  const { id, username } = client.user;
  if (shown === "account" && shownUser === id) return;
  if (isExpectedBack()) {
    goBack();
    return;
  }
  reset();
  shownUser = id;
  showName(username);
  showMessage(byId("sign-in-notice"));
  setView("account");
  reload();
}

function showSignIn(reason, error) {
  const wasHere = shown === "account";
  const before = byId("account-name").textContent;
  reset();
  setView("sign-in");
  const notice = error?.code === "cookies_blocked" ? messageFor(error) : reason && text(`page.${reason}`);
  if (wasHere) showMessage(byId("sign-in-notice"), notice ?? "");
  if (wasHere && reason === "session-ended") byId("username").value = before;
  if (wasHere) byId("sign-in-title").focus();
}

/** Whether the user is to go back at once. Users who ask for a tab stay, and so do those whom that page sends back. */
function isExpectedBack() {
  if (!returnUrl || shown === "setup") return false; // the recovery codes come first
  const isForm = ["sign-in", "second"].includes(shown);
  const hasSignedIn = isForm && byId(`view-${shown}`).querySelector("[aria-busy=true]");
  return hasSignedIn || (!location.hash && !wasJustThere(returnUrl));
}

/** Go to the page that the user came from, if there is one. */
function goBack() {
  if (!returnUrl || !client.user) return;
  byId("loading-text").dataset.text = "page.leaving";
  translate(byId("view-loading"));
  setView("loading");
  location.replace(returnUrl);
}

/** Remove everything that belongs to the previous user. */
function reset() {
  shownUser = null;
  showName("");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  clearAgain();
  each("clear");
  byId("banner").hidden = true;
  setLanguage(null);
}

function showName(username) {
  byId("account-name").textContent = username;
  for (const field of document.querySelectorAll("input[readonly][name=username]")) field.value = username;
}

/** Show one of the views of the whole page, and hide the others. */
function setView(chosen) {
  if (shown === chosen) return;
  const hadFocus = shown !== null && byId(`view-${shown}`).contains(document.activeElement);
  shown = chosen;
  for (const section of document.querySelectorAll("main > [id^=view-]")) {
    section.hidden = section.id !== `view-${chosen}`;
  }
  byId("sign-out").hidden = chosen !== "account";
  nameDocument();
  if (hadFocus) byId(`${chosen}-title`).focus();
  else if (chosen === "sign-in" && document.activeElement === document.body) byId("username").focus();
}

function nameDocument() {
  document.title = byId(`${shown}-title`).textContent;
}

/** Check again whether the service can be reached and who is signed in, and load the data of the views again. */
async function refreshView() {
  if (shown === "unreachable") {
    showMessage(byId("unreachable-text"), text("page.retrying"));
    disable(byId("unreachable-retry"), true);
    await restore();
    disable(byId("unreachable-retry"), false);
  } else if (shown === "account") await reload();
}

async function reload() {
  loadedAt = Date.now();
  await each("load");
}

/** Show or hide the banner about the connection. Returns whether `error` means that it is lost. */
function showConnection(error) {
  const isLost = error !== null && isUnreachable(error);
  if (error === null || isLost) byId("banner").hidden = !isLost || shown !== "account";
  if (isLost) showMessage(byId("banner-text"), `${unreachableMessage(error)} ${text("page.outOfDate")}`);
  return isLost;
}

/** Do `work` and show its errors in the section `name`. If it is automatic, only the banner reports lost connections. */
async function attempt(name, work, { isAutomatic = false } = {}) {
  showMessage(byId(`${name}-done`));
  showMessage(byId(`${name}-problem`));
  try {
    await work();
    if (navigator.onLine) showConnection(null); // a response can be from before the connection was lost
  } catch (error) {
    if (error.isCancelled || (showConnection(error) && isAutomatic)) return;
    showMessage(byId(`${name}-problem`), messageFor(error));
  }
}

async function signOut() {
  try {
    await client.signOut();
  } catch (error) {
    if (client.user) return;
    showMessage(byId("sign-in-notice"), text(isUnreachable(error) ? "page.signOutUnreachable" : "page.signOutFailed"));
  }
}
