/* The account page: which view is shown, and what its parts do. */

import { call } from "./account-calls.js";
import { startDevices } from "./account-devices.js";
import { byId, clearForm, disable, onSubmit, openDialog, say, showFieldError } from "./account-forms.js";
import { awaySentence, isAway, sentenceOf } from "./account-words.js";
import { createClient } from "./tokenapp.js";

const TITLES = { "sign-in": "Sign in", account: "Your account", unreachable: "No connection", loading: "Your account" };
const FRESH_ENOUGH = 30_000;
const MINUTE = 60_000;
const NOTICES = {
  "signed-out": "You are signed out.",
  "session-ended": "You were signed out: this session has ended, or was ended from another device. Sign in to go on.",
};
const WRONG = "This is not your password. Please try again.";

const client = createClient();
const devices = startDevices(client, { fresh, reached });
let view = null;
let shownSession = null;
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
  places: { password_rejected: { field: "new" }, invalid_credentials: { field: "current", text: WRONG } },
});

onSubmit(byId("again-form"), giveAgain, {
  places: { invalid_credentials: { field: "again-password", text: WRONG } },
});

byId("sign-out").onclick = signOut;
byId("banner-retry").onclick = look;
byId("unreachable-retry").onclick = look;
client.onChange(({ reason }) => show(reason));
addEventListener("offline", () => reached({ status: 0 }));
addEventListener("online", look);
addEventListener("pageshow", (event) => event.persisted && look()); // it slept, and heard of nothing
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible" && Date.now() - loadedAt > FRESH_ENOUGH) look();
});
setInterval(devices.retime, MINUTE);
setView("loading");
await start();

async function start() {
  try {
    await client.restore();
  } catch (error) {
    setView("sign-in");
    say(byId("sign-in-notice"), sentenceOf(error));
    return;
  }
  show(null);
}

/** Show what goes with the client's state; `reason` is what has just happened. */
function show(reason) {
  if (client.state === "unknown") {
    say(byId("unreachable-text"), `${awaySentence()} Check your connection and try again. If you were signed in, you still are.`);
    setView("unreachable");
  } else if (client.user) showAccount();
  else showSignIn(reason);
}

function showAccount() {
  const { sessionId, username } = client.user;
  if (view === "account" && shownSession === sessionId) return;
  forget();
  shownSession = sessionId;
  name(username);
  say(byId("sign-in-notice"));
  setView("account");
  reload();
}

function showSignIn(reason) {
  const wasHere = view === "account";
  const before = byId("account-name").textContent;
  forget();
  setView("sign-in");
  if (wasHere) say(byId("sign-in-notice"), NOTICES[reason]);
  if (wasHere && reason === "session-ended") byId("username").value = before;
  if (wasHere) byId("sign-in-title").focus();
  else byId("username").focus();
}

/** Leave nothing of one person's for the next one to see. */
function forget() {
  shownSession = null;
  name("");
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  clearForm(byId("change"));
  clearForm(byId("again-form"));
  devices.clear();
  byId("banner").hidden = true;
}

function name(username) {
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

/** Look again: whether the service can be reached, who is signed in, and where. */
async function look() {
  if (view === "unreachable") {
    say(byId("unreachable-text"), "Trying again…");
    disable(byId("unreachable-retry"), true);
    await start();
    disable(byId("unreachable-retry"), false);
  } else if (view === "account") await reload();
}

async function reload() {
  loadedAt = Date.now();
  await devices.load();
}

/** Show or hide that the service cannot be reached; return whether that is what `error` says. */
function reached(error) {
  const isLost = error !== null && isAway(error);
  if (error === null || isLost) byId("banner").hidden = !isLost || view !== "account";
  if (isLost) say(byId("banner-text"), `${awaySentence(error)} What you see here may be out of date.`);
  return isLost;
}

async function changePassword({ current, new: chosen }) {
  const shortest = Number(document.body.dataset.passwordMinLength);
  if ([...chosen.normalize("NFC")].length < shortest) {
    showFieldError(byId("new"), `The password must have at least ${shortest} characters.`);
    return;
  }
  const asker = shownSession;
  await call(client, "PUT", "/api/me/password", { currentPassword: current, newPassword: chosen });
  clearForm(byId("change"));
  await reload();
  if (shownSession === asker) say(byId("change-done"), "Your password is changed, and all your other devices are signed out.");
}

/** Do `action`; where the password was given too long ago for it, ask for it and do `action` then. */
async function fresh(action) {
  try {
    return await action();
  } catch (error) {
    if (error.code !== "reauthentication_required") throw error;
  }
  clearForm(byId("again-form"));
  const closed = openDialog(byId("again"));
  byId("again-password").focus();
  await closed;
  if (byId("again").returnValue !== "given") throw Object.assign(new Error("given up"), { isOver: true });
  return action();
}

async function giveAgain({ password }) {
  const session = client.user?.sessionId;
  await client.reauthenticate(password);
  if (client.user?.sessionId === session) byId("again").close("given"); // or it is the next person's by now
}

async function signOut() {
  try {
    await client.signOut();
  } catch (error) {
    if (!client.user) say(byId("sign-in-notice"), `You are signed out in this browser, but ${untold(error)}`);
  }
}

function untold(error) {
  const why = isAway(error) ? "the service could not be reached" : "the service could not take note of it";
  return `${why}: reload this page once you are online again, and sign out once more.`;
}
