"""Outgoing mail: written in the transaction it belongs to, and sent by a thread.

It is imported only if an SMTP server is set, or in development.
"""
