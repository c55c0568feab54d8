import { produce } from "immer";
import { createElement as h, StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { client } from "./client.js";
import { App } from "./react-app.js";

// A store that freezes what it holds.
window.store = produce({ client, calls: 0 }, (draft) => {
  draft.calls += 1;
});
hydrateRoot(document.getElementById("app"), h(StrictMode, null, h(App)));
await client.restore();
