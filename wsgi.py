"""What gunicorn and the flask command load."""

import sys

from tokenapp import create_app
from tokenapp.config import ConfigError

try:
    app = create_app()
except ConfigError as fault:
    sys.exit(str(fault))
