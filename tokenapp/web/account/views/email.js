/* The link that confirms a new address. */

import { linkView } from "../links.js";
import { text } from "../texts.js";

export const email = linkView("email", { use });

async function use(page, token) {
  await page.call("POST", "/api/me/email/complete", { token });
  return text("email.done");
}
