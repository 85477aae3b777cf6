#!/bin/sh
# Makes a virtual environment: make_venv.sh PYTHON DIRECTORY. Debian ships Python without the module that does it:
# as root with apt it is installed, otherwise the exact command is printed.
python="$1"
venv="$2"
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "Installing system packages: python3-venv"
        apt-get update -qq >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null || exit 1
    else
        echo "Python's venv module is missing. Install it with: sudo apt-get install python3-venv, then run make again."
        exit 1
    fi
fi
exec "$python" -m venv "$venv"
