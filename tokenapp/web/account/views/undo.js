/* The link that undoes a change of address, for users whose account somebody else has changed. */

import { callAsNobody } from "../calls.js";
import { discardSession, linkView } from "../links.js";
import { text } from "../texts.js";

export const undo = linkView("undo", { use });

async function use(page, token) {
  await callAsNobody(page.client, "/api/email-change/undo", { token });
  await discardSession(page);
  return text("undo.done");
}
