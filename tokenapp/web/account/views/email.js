/* The link that confirms a new address. */

import { callAsNobody } from "../calls.js";
import { linkView } from "../links.js";
import { text } from "../texts.js";

export const email = linkView("email", { use });

async function use(page, token) {
  await callAsNobody(page.client, "/api/me/email/complete", { token });
  return text("email.done");
}
