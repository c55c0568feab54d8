/* The account itself. Its language becomes that of the page. */

import { byId, showMessage } from "../forms.js";
import { formatDay, text, timeElement } from "../texts.js";

let page = null;
let account = null;

export const profile = { name: "profile", start, load, clear, render };

function start(startedPage) {
  page = startedPage;
}

function load() {
  const show = async () => {
    account = await page.call("GET", "/api/me");
    await page.setLanguage(account.locale);
    render();
  };
  return page.attempt("profile", show, { isAutomatic: true });
}

function clear() {
  account = null;
  byId("profile-name").textContent = "";
  showEmail("");
  byId("profile-created").replaceChildren();
  showMessage(byId("profile-problem"));
}

function render() {
  if (!account) return;
  const created = new Date(account.createdAt);
  byId("profile-name").textContent = account.username;
  showEmail(account.emailVerifiedAt || !account.email ? account.email : text("address.unconfirmed", account));
  byId("profile-created").replaceChildren(timeElement(created, formatDay(created)));
}

function showEmail(email = text("address.none")) {
  if (byId("profile-email")) byId("profile-email").textContent = email;
}
