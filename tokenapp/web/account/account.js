/* The account page: creates the client, and starts the views in the order of the page. */

import { createClient } from "../client/tokenapp.js";
import { startPage } from "./page.js";
import { address } from "./views/address.js";
import { data } from "./views/data.js";
import { devices } from "./views/devices.js";
import { email } from "./views/email.js";
import { everywhere } from "./views/everywhere.js";
import { factors } from "./views/factors.js";
import { keys } from "./views/keys.js";
import { leave } from "./views/leave.js";
import { passkeys } from "./views/passkeys.js";
import { password } from "./views/password.js";
import { profile } from "./views/profile.js";
import { register } from "./views/register.js";
import { reset } from "./views/reset.js";
import { second } from "./views/second.js";
import { setup } from "./views/setup.js";
import { signIn } from "./views/sign-in.js";
import { temporary } from "./views/temporary.js";
import { undo } from "./views/undo.js";

const client = createClient({ baseUrl: new URL("..", import.meta.url).href });
const outside = [signIn, register, reset, email, undo, temporary, second, setup];
startPage(client, [...outside, devices, password, passkeys, factors, everywhere, keys, profile, address, data, leave]);
