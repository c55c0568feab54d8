import { api as withFetch } from "./axios-fetch.js";
import { api as withInterceptor } from "./axios-interceptor.js";
import { client } from "./client.js";

Object.assign(window, { client, withFetch, withInterceptor });
