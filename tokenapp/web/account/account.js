/* The account page: creates the client, and starts the views in the order of the page. */

import { createClient } from "../client/tokenapp.js";
import { startPage } from "./page.js";
import { devices } from "./views/devices.js";
import { everywhere } from "./views/everywhere.js";
import { password } from "./views/password.js";
import { profile } from "./views/profile.js";
import { signIn } from "./views/sign-in.js";

const client = createClient({ baseUrl: new URL("..", import.meta.url).href });
startPage(client, [signIn, devices, password, everywhere, profile]);
