"""gunicorn's configuration in a checkout: that of ``tokenapp serve``."""

from tokenapp.server.configuration import *  # noqa: F403 -- gunicorn reads the names of this module
