// The program that this service replaces, written anew from its description: users and refresh tokens in memory, tokens
// looked for in an array, nothing rotated, passwords compared as they are.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const cookieParser = require("cookie-parser");
const express = require("express");
const jwt = require("jsonwebtoken");

const ACCESS_SECRET = "an access secret for the benchmark, long enough";
const REFRESH_SECRET = "a refresh secret for the benchmark, long enough";
const COOKIE = { httpOnly: true, sameSite: "strict", path: "/" };
const WEEK = 7 * 24 * 3600;

const users = Array.from({ length: Number(process.env.USERS) }, (_, index) => ({
  id: index + 1,
  username: `user${String(index).padStart(4, "0")}`,
  password: process.env.PASSWORD,
}));
let refreshTokens = [];

const accessTokenFor = (user) =>
  jwt.sign({ id: user.id, username: user.username }, ACCESS_SECRET, { expiresIn: "15m" });
const refreshTokenFor = (user) =>
  jwt.sign({ id: user.id, username: user.username }, REFRESH_SECRET, { expiresIn: WEEK });

// For the benchmark: as many live tokens as are wanted, and a sample of them with access tokens in a file. They are what
// the library makes, and a jti that tells them apart; made without it, because it would take a minute.
const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const seeded = (user, serial) => {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { id: user.id, username: user.username, jti: String(serial), iat, exp: iat + WEEK };
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${crypto.createHmac("sha256", REFRESH_SECRET).update(signed).digest("base64url")}`;
};
const wanted = Number(process.env.TOKENS);
for (let index = 0; index < wanted; index += 1) {
  refreshTokens.push(seeded(users[index % users.length], index));
}
const every = Math.max(1, Math.floor(wanted / Number(process.env.SAMPLE)));
const lines = refreshTokens
  .filter((_, index) => index % every === 0)
  .map((token, index) => `${accessTokenFor(users[index % users.length])} ${token}\n`);
fs.writeFileSync(process.env.SAMPLE_FILE, lines.join(""));

const app = express();
app.use(express.json());
app.use(cookieParser());

app.post("/api/login", (req, res) => {
  const { username, password } = req.body;
  const user = users.find((each) => each.username === username && each.password === password);
  if (!user) {
    return res.status(401).json({ message: "Invalid credentials." });
  }
  const refreshToken = refreshTokenFor(user);
  refreshTokens.push(refreshToken);
  res.cookie("refreshToken", refreshToken, { ...COOKIE, maxAge: WEEK * 1000 });
  return res.json({ accessToken: accessTokenFor(user), message: "Logged in successfully." });
});

app.post("/api/token", (req, res) => {
  const { refreshToken } = req.cookies;
  if (!refreshToken) {
    return res.status(401).json({ message: "Refresh token not found." });
  }
  if (!refreshTokens.includes(refreshToken)) {
    return res.status(403).json({ message: "Refresh token invalid or revoked." });
  }
  return jwt.verify(refreshToken, REFRESH_SECRET, (error, user) =>
    error
      ? res.status(403).json({ message: "Refresh token invalid or expired." })
      : res.json({ accessToken: accessTokenFor(user) }));
});

app.post("/api/logout", (req, res) => {
  const { refreshToken } = req.cookies;
  refreshTokens = refreshTokens.filter((token) => token !== refreshToken);
  res.clearCookie("refreshToken", COOKIE);
  return res.sendStatus(204);
});

app.get("/api/protected", (req, res) => {
  const token = (req.headers.authorization || "").split(" ")[1];
  if (!token) {
    return res.status(401).json({ message: "Access token required." });
  }
  return jwt.verify(token, ACCESS_SECRET, (error, user) =>
    error
      ? res.status(403).json({ message: "Access token invalid or expired." })
      : res.json({ message: `Welcome, ${user.username}! This is protected data.` }));
});

app.get("/healthz", (_req, res) => res.send("ok"));
app.listen(Number(process.env.PORT), "127.0.0.1");
