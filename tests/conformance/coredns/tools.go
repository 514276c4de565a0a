//go:build tools

// Package coredns pins the DNS server that the conformance cluster runs.
package coredns

import _ "github.com/coredns/coredns"
