import { createClient } from "tokenapp";

const service = new URL(import.meta.resolve("tokenapp")).origin;
const client = createClient({ baseUrl: service });
const find = (id) => document.getElementById(id);
const say = (text) => {
  find("message").textContent = text;
};

function show() {
  find("sign-in").hidden = client.state !== "signed-out";
  find("signed-in").hidden = client.state !== "signed-in";
}

client.onChange(({ user, reason }) => {
  if (reason === "signed-in") say(`Hello, ${user.username}.`);
  if (reason === "signed-out") say("Please sign in.");
  if (reason === "session-ended") say("Your session has ended. Please sign in again.");
  show();
});

// The account page of the service signs users in, and sends them back to this page.
find("sign-in").href = `${service}/account?return_to=${encodeURIComponent(location.href)}`;

find("call").addEventListener("click", async () => {
  try {
    const response = await client.fetch(`${service}/api/protected`);
    if (client.user) say((await response.json()).message);
  } catch (error) {
    say(error.message);
  }
});

find("sign-out").addEventListener("click", () => client.signOut().catch((error) => say(error.message)));

await client.restore();
if (client.state === "unknown") say("The service cannot be reached.");
