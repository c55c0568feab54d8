/* The tabs of the account, and the address that names one: `/account#devices`. */

import { byId } from "./forms.js";

const links = document.querySelectorAll(".tabs a");
const sections = document.querySelectorAll("[data-tab]");

/** Follow the address now and whenever it changes. `openView(name, value)` opens a view outside the account. */
export function startTabs(openView) {
  for (const link of links) link.hidden = ![...sections].some(({ dataset }) => `#${dataset.tab}` === link.hash);
  const follow = ({ isFirst = false } = {}) => {
    const [name, value] = location.hash.slice(1).split(/=(.*)/s);
    // A value is a secret, such as the token of a link in a mail: it does not stay in the address bar or the history.
    if (value !== undefined) history.replaceState(null, "", location.pathname + location.search);
    if (openView(name, value)) return;
    const link = [...links].find((each) => each.hash === `#${name}` && !each.hidden);
    if (!link && name && !isFirst) return; // the link that skips to the content
    showTab(link ?? links[0]);
    if (!isFirst) [...sections].find((section) => !section.hidden).querySelector("h2").focus();
  };
  addEventListener("hashchange", follow);
  follow({ isFirst: true });
}

function showTab(chosen) {
  for (const link of links) {
    if (link === chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  for (const section of sections) section.hidden = `#${section.dataset.tab}` !== chosen.hash;
}
