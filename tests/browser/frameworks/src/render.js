import { createElement as h, StrictMode } from "react";
import { renderToString } from "react-dom/server";
import { App } from "./react-app.js";

console.log(renderToString(h(StrictMode, null, h(App))));
