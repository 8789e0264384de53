#!/bin/sh
# The system packages that running jobs needs: libseccomp2 (the sandbox's system call filter); and bubblewrap (the sandbox), where the
# distribution has it: its copy is the one that AppArmor profiles know. Without it the one in .venv serves.
# Installs them where that is possible without asking (root, apt); elsewhere says what is missing and lets the rest go on:
# a node without a sandbox asks others for work, and the tests that need one skip by name.
missing=""
[ -n "$(ls /lib/*/libseccomp.so.2 /usr/lib/*/libseccomp.so.2 /usr/lib64/libseccomp.so.2 /usr/lib/libseccomp.so.2 2>/dev/null)" ] || missing="libseccomp2"
command -v bwrap >/dev/null 2>&1 || wanted="bubblewrap"
[ -n "$missing$wanted" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing $missing $wanted with apt-get: the sandbox in which jobs run"
  export DEBIAN_FRONTEND=noninteractive
  # shellcheck disable=SC2086 # a list of names
  (apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing $wanted) >/dev/null 2>&1 && exit 0
  echo "apt-get could not install them"
fi
[ -n "$missing" ] || exit 0
echo "missing system package: $missing"
echo "  without it this machine cannot run jobs; as root: apt-get install $missing   (Fedora: dnf install libseccomp)"
