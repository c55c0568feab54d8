import axios from "axios";
import { client } from "./client.js";

// The token is added, and renewed if an API rejects it, by the client's fetch.
const api = axios.create({ adapter: "fetch", env: { fetch: client.fetch } });

// With the default adapter, an interceptor adds the token.
const plain = axios.create();
plain.interceptors.request.use(async (config) => {
  const token = await client.getToken();
  if (token) config.headers.Authorization = `Bearer ${token}`;
  return config;
});
Object.assign(window, { client, api, plain });
