// Program spire-csi gives pods the folder in which SPIRE's agent has its socket, as an ephemeral inline CSI volume: what SPIFFE's
// own driver (spiffe-csi) does with node-driver-registrar beside it, neither of which the Go module proxy has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const name = "csi.spiffe.io"

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedNodeServer
	sockets string
	node    string
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	return &csi.GetPluginCapabilitiesResponse{}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	err := os.Mkdir(r.TargetPath, 0o750)
	switch {
	case errors.Is(err, os.ErrExist):
		// Asked again: it is mounted already.
		return &csi.NodePublishVolumeResponse{}, nil
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := syscall.Mount(d.sockets, r.TargetPath, "", syscall.MS_BIND, ""); err != nil {
		os.Remove(r.TargetPath)
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (d *driver) NodeUnpublishVolume(_ context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	// Not mounted (EINVAL) or not there (ENOENT): done before.
	if err := syscall.Unmount(r.TargetPath, 0); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
		return nil, status.Error(codes.Internal, err.Error())
	}
	if err := os.Remove(r.TargetPath); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// registrar tells the kubelet of the driver.
type registrar struct {
	registration.UnimplementedRegistrationServer
	endpoint string
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: name, Endpoint: r.endpoint, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(_ context.Context, said *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	fmt.Println("registered:", said.PluginRegistered, said.Error)
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	sockets := flag.String("sockets", "", "the folder that pods get")
	node := flag.String("node", "", "the node's name")
	kubelet := flag.String("kubelet", "/var/lib/kubelet", "the kubelet's folder")
	flag.Parse()
	if err := run(*sockets, *node, *kubelet); err != nil {
		fmt.Fprintln(os.Stderr, "spire-csi:", err)
		os.Exit(1)
	}
}

func run(sockets, node, kubelet string) error {
	own := filepath.Join(kubelet, "plugins", name, "csi.sock")
	announced := filepath.Join(kubelet, "plugins_registry", name+"-reg.sock")
	d := &driver{sockets: sockets, node: node}
	volumes, plugins := grpc.NewServer(), grpc.NewServer()
	csi.RegisterIdentityServer(volumes, d)
	csi.RegisterNodeServer(volumes, d)
	registration.RegisterRegistrationServer(plugins, &registrar{endpoint: own})
	failed := make(chan error, 2)
	for path, server := range map[string]*grpc.Server{own: volumes, announced: plugins} {
		if err := serve(server, path, failed); err != nil {
			return err
		}
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	select {
	case <-ended:
		return nil
	case err := <-failed:
		return err
	}
}

func serve(server *grpc.Server, path string, failed chan<- error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Of a process that was killed.
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	go func() { failed <- server.Serve(listener) }()
	return nil
}
