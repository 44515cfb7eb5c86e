"""Lets the vendor's SDK reach the emulator: every name that ends in `.emulator.test` leads to 127.0.0.1.

The SDK puts the project in front of the endpoint's host name, so it needs a name whose children resolve.
"""
import json
import os
import socket
import sys

HOST = "emulator.test"
_resolve = socket.getaddrinfo


def _getaddrinfo(host, *args, **kwargs):
    if isinstance(host, bytes):
        host = host.decode()
    if host == HOST or str(host).endswith("." + HOST):
        host = "127.0.0.1"
    return _resolve(host, *args, **kwargs)


socket.getaddrinfo = _getaddrinfo

SETTINGS = json.loads(os.environ["EMULATOR"])
PROJECT = SETTINGS["project"]
LOGSTORE = SETTINGS["logstore"]
KEY = SETTINGS["key"]
SECRET = SETTINGS["secret"]
ENDPOINT = "%s://%s:%d" % (SETTINGS["scheme"], HOST, SETTINGS["port"])

import aliyun.log.version  # noqa: E402

print("aliyun-log-python-sdk", aliyun.log.version.__version__, file=sys.stderr)
