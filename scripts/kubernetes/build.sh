#!/bin/sh
# Builds a Kubernetes for the tests, and what runs its containers: from source, since no registry has them as programs. Needs Go, gcc and libseccomp-dev.
#
# build.sh INTO
set -eu
mkdir -p "$1"
into=$(cd "$1" && pwd)
cd "$(dirname "$0")"
export GOBIN="$into" GOFLAGS=-buildvcs=false

version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
named=k8s.io/component-base/version
go build -o "$into/kubernetes" -ldflags "-s -w -X $named.gitVersion=$version -X $named.gitMajor=1 -X $named.gitMinor=${minor%%.*}" .

go install -ldflags "-s -w" -tags seccomp github.com/opencontainers/runc@v1.3.7
for program in containerd containerd-shim-runc-v2 ctr; do
    go install -ldflags "-s -w" "github.com/containerd/containerd/v2/cmd/$program@v2.2.9"
done
for plugin in main/bridge main/loopback ipam/host-local; do
    CGO_ENABLED=0 go install -ldflags "-s -w" "github.com/containernetworking/plugins/plugins/$plugin@v1.9.1"
done
