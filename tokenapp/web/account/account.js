/* The account page: selects the view, and connects its parts. */

import { startDevices } from "./account-devices.js";
import { byId, clearForm, disable, onSubmit, openDialog, showFieldError, showMessage } from "./account-forms.js";
import { isUnreachable, messageFor, unreachableMessage } from "./account-words.js";
import { createClient } from "./tokenapp.js";

const TITLES = { "sign-in": "Sign in", account: "Your account", unreachable: "No connection", loading: "Your account" };
const RELOAD_AFTER = 30_000;
const MINUTE = 60_000;
const NOTICES = {
  "signed-out": "You are signed out.",
  "session-ended": "You were signed out: this session expired or was ended from another device. Sign in to continue.",
};
const WRONG_PASSWORD = "This password is wrong. Please try again.";

const client = createClient();
const devices = startDevices(client, { withRecentPassword, showConnection });
let view = null;
let shownUser = null;
let loadedAt = 0;

onSubmit(byId("sign-in"), async ({ username, password }) => {
  try {
    await client.signIn(username, password);
    clearForm(byId("sign-in"));
  } catch (error) {
    byId("password").focus();
    byId("password").select();
    throw error;
  }
});

onSubmit(byId("change"), changePassword, {
  places: { password_rejected: { field: "new" }, invalid_credentials: { field: "current", text: WRONG_PASSWORD } },
});

onSubmit(byId("again-form"), confirmPassword, {
  places: { invalid_credentials: { field: "again-password", text: WRONG_PASSWORD } },
});

byId("sign-out").onclick = signOut;
byId("banner-retry").onclick = refreshView;
byId("unreachable-retry").onclick = refreshView;
client.onChange(({ reason }) => show(reason));
addEventListener("offline", () => showConnection({ status: 0 }));
addEventListener("online", refreshView);
addEventListener("pageshow", (event) => event.persisted && refreshView()); // restored from the back/forward cache
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && Date.now() - loadedAt > RELOAD_AFTER) refreshView();
});
setInterval(devices.updateTimes, MINUTE);
setView("loading");
await start();

async function start() {
  try {
    await client.restore();
  } catch (error) {
    setView("sign-in");
    showMessage(byId("sign-in-notice"), messageFor(error));
    return;
  }
  show(null);
}

/** Show the view for the client's state. `reason` is that of the last change. */
function show(reason) {
  if (client.state === "unknown") {
    const advice = "Check your connection and try again. If you were signed in, you still are.";
    showMessage(byId("unreachable-text"), `${unreachableMessage()} ${advice}`);
    setView("unreachable");
  } else if (client.user) showAccount();
  else showSignIn(reason);
}

function showAccount() {
  const { id, username } = client.user;
  if (view === "account" && shownUser === id) return;
  reset();
  shownUser = id;
  showName(username);
  showMessage(byId("sign-in-notice"));
  setView("account");
  reload();
}

function showSignIn(reason) {
  const wasHere = view === "account";
  const before = byId("account-name").textContent;
  reset();
  setView("sign-in");
  if (wasHere) showMessage(byId("sign-in-notice"), NOTICES[reason]);
  if (wasHere && reason === "session-ended") byId("username").value = before;
  if (wasHere) byId("sign-in-title").focus();
  else byId("username").focus();
}

/** Remove everything that belongs to the previous user. */
function reset() {
  shownUser = null;
  showName("");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  clearForm(byId("change"));
  clearForm(byId("again-form"));
  devices.clear();
  byId("banner").hidden = true;
}

function showName(username) {
  byId("account-name").textContent = username;
  for (const field of ["change-username", "again-username"]) byId(field).value = username;
}

function setView(chosen) {
  if (view === chosen) return;
  const hadFocus = view !== null && byId(`view-${view}`).contains(document.activeElement);
  view = chosen;
  for (const each of Object.keys(TITLES)) byId(`view-${each}`).hidden = each !== chosen;
  byId("sign-out").hidden = chosen !== "account";
  document.title = TITLES[chosen];
  if (hadFocus) byId(`${chosen}-title`).focus();
}

/** Check again whether the service can be reached and who is signed in, and reload the devices. */
async function refreshView() {
  if (view === "unreachable") {
    showMessage(byId("unreachable-text"), "Trying again…");
    disable(byId("unreachable-retry"), true);
    await start();
    disable(byId("unreachable-retry"), false);
  } else if (view === "account") await reload();
}

async function reload() {
  loadedAt = Date.now();
  await devices.load();
}

/** Show or hide the banner about the connection. Returns whether `error` means that it is lost. */
function showConnection(error) {
  const isLost = error !== null && isUnreachable(error);
  if (error === null || isLost) byId("banner").hidden = !isLost || view !== "account";
  if (isLost) showMessage(byId("banner-text"), `${unreachableMessage(error)} This page may be out of date.`);
  return isLost;
}

async function changePassword({ current, new: chosen }) {
  const shortest = Number(document.body.dataset.passwordMinLength);
  if ([...chosen.normalize("NFC")].length < shortest) {
    showFieldError(byId("new"), `The password must have at least ${shortest} characters.`);
    return;
  }
  const user = shownUser;
  await client.changePassword(current, chosen);
  if (shownUser !== user) return;
  clearForm(byId("change"));
  await reload();
  if (shownUser !== user) return;
  showMessage(byId("change-done"), "Your password was changed, and all your other devices are signed out.");
}

/** Do `action`. If it requires a recent password, ask for the password first, and then do it. */
async function withRecentPassword(action) {
  try {
    return await action();
  } catch (error) {
    if (error.code !== "reauthentication_required") throw error;
  }
  clearForm(byId("again-form"));
  const closed = openDialog(byId("again"));
  byId("again-password").focus();
  await closed;
  if (byId("again").returnValue !== "confirmed") throw Object.assign(new Error("cancelled"), { isCancelled: true });
  return action();
}

async function confirmPassword({ password }) {
  const user = shownUser;
  await client.reauthenticate(password);
  if (client.user?.id === user) byId("again").close("confirmed"); // another user may have signed in
}

async function signOut() {
  try {
    await client.signOut();
  } catch (error) {
    if (client.user) return;
    showMessage(byId("sign-in-notice"), `You are signed out in this browser, but ${logoutFailure(error)}`);
  }
}

function logoutFailure(error) {
  const why = isUnreachable(error) ? "the service could not be reached" : "the service could not end your session";
  return `${why}. When you are online again, reload this page and sign out again.`;
}
