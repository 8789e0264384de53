#!/bin/sh
# The system packages that running jobs needs: bubblewrap (the sandbox) and libseccomp2 (its system call filter).
# Installs them where that is possible without asking (root, apt); elsewhere says what to install, and lets the rest go on:
# a node without them asks others for work, and the tests that need them skip by name.
missing=""
command -v bwrap >/dev/null 2>&1 || missing="bubblewrap"
[ -n "$(ls /lib*/*/libseccomp.so.2 /usr/lib*/*/libseccomp.so.2 /usr/lib*/libseccomp.so.2 2>/dev/null)" ] || missing="$missing libseccomp2"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing $missing with apt-get: the sandbox in which jobs run"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of names
  (apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing) >/dev/null 2>&1 && exit 0
  echo "apt-get could not install: $missing"
fi
echo "missing system packages: $missing"
echo "  without them this machine cannot run jobs; as root: apt-get install $missing   (Fedora: dnf install bubblewrap libseccomp)"
