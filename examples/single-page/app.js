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

find("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(event.target));
  try {
    await client.signIn(username, password);
    event.target.reset();
  } catch (error) {
    say(error.message);
  }
});

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
