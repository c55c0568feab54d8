import { mount } from "svelte";
import App from "./App.svelte";
import { client } from "./client.js";

mount(App, { target: document.getElementById("app") });
await client.restore();
