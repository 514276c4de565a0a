//go:build tools

// Package conformance pins cnitool, which is built from its own module.
package conformance

import _ "github.com/containernetworking/cni/cnitool"
