"""The WSGI application that servers and the command line load."""

import sys

from tokenapp import create_app
from tokenapp.config import ConfigError

try:
    app = create_app()
except ConfigError as fault:
    sys.exit(str(fault))
