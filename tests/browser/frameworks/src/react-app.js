import { createElement as h } from "react";
import { client } from "./client.js";
import { useAuthState, useUser } from "./react-session.js";

async function submit(event) {
  event.preventDefault();
  const { username, password } = Object.fromEntries(new FormData(event.target));
  await client.signIn(username, password);
}

export function App() {
  const user = useUser();
  const state = useAuthState();
  if (state === "unknown") return h("p", null, "Loading…");
  if (user) {
    return h("p", null, `Hello, ${user.username}. `, h("button", { onClick: () => client.signOut() }, "Sign out"));
  }
  return h(
    "form",
    { onSubmit: submit },
    h("input", { name: "username" }),
    h("input", { name: "password", type: "password" }),
    h("button", null, "Sign in"),
  );
}
