// Command libcni does what cnitool cannot: it gives GC a list of valid attachments, and prints an
// error's code. It calls the same library in the same way.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

func run(verb, network string, attachments []string) error {
	list, err := libcni.LoadNetworkConf(os.Getenv("NETCONFPATH"), network)
	if err != nil {
		return err
	}
	cni := libcni.NewCNIConfig(filepath.SplitList(os.Getenv("CNI_PATH")), nil)
	switch verb {
	case "status":
		return cni.GetStatusNetworkList(context.Background(), list)
	case "gc":
		valid := []types.GCAttachment{}
		for _, containerID := range attachments {
			valid = append(valid, types.GCAttachment{ContainerID: containerID, IfName: "eth0"})
		}
		return cni.GCNetworkList(context.Background(), list, &libcni.GCArgs{ValidAttachments: valid})
	}
	return fmt.Errorf("verb %q: expected status or gc", verb)
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: libcni status|gc NETWORK [CONTAINER-ID…]")
		os.Exit(2)
	}
	err := run(os.Args[1], os.Args[2], os.Args[3:])
	if err == nil {
		return
	}
	var failure *types.Error
	if !errors.As(err, &failure) {
		failure = &types.Error{Msg: err.Error()}
	}
	_ = json.NewEncoder(os.Stdout).Encode(failure)
	os.Exit(1)
}
