"""The browser client and the account page in Chromium."""
