import axios from "axios";
import { client } from "./client.js";

export const api = axios.create({ baseURL: client.baseUrl });
api.interceptors.request.use(async (config) => {
  const token = await client.getToken();
  if (token) config.headers.Authorization = `Bearer ${token}`;
  return config;
});
