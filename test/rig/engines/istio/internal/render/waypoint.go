package render

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/serviceregistry/provider"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/host"
	"istio.io/istio/pkg/config/protocol"
	"istio.io/istio/pkg/config/visibility"
	"istio.io/istio/pkg/util/sets"
	"istio.io/istio/pkg/workloadapi"
)

// Waypoint is the Gateway that is asked, in Options.Namespace, and what uses it.
type Waypoint struct {
	Name      string    `json:"name"`
	Services  []Service `json:"services"`
	Addresses []string  `json:"addresses"` // of pods that use it (istio.io/waypoint-for: workload or all)
}

// Service uses a waypoint.
type Service struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Address   string `json:"address"` // cluster IP
	Ports     []Port `json:"ports"`
}

// Tunnel is the part of a waypoint that decides: it takes CONNECT over mutual TLS, and judges what comes out.
type Tunnel struct {
	Terminate, Internal *listener.Listener
	Cluster             *cluster.Cluster // from one to the other
}

// users says which Services and workloads use the waypoint, as istiod's ambient index does.
type users struct {
	model.NoopAmbientIndexes
	services  []model.ServiceInfo
	workloads []model.WorkloadInfo
}

func (r *users) ServicesForWaypoint(model.WaypointKey) []model.ServiceInfo {
	return r.services
}

func (r *users) WorkloadsForWaypoint(model.WaypointKey) []model.WorkloadInfo {
	return r.workloads
}

func runWaypoint(o Options, cfgs []config.Config, vres []ObjectResult, m *meshconfig.MeshConfig) (*Result, error) {
	index := &users{}
	var services []*model.Service
	for i, s := range o.Waypoint.Services {
		svc := &model.Service{
			Hostname:       host.Name(s.Name + "." + s.Namespace + ".svc.cluster.local"),
			DefaultAddress: s.Address,
			Resolution:     model.ClientSideLB,
			CreationTime:   time.Unix(1700000000+int64(i), 0),
			Attributes: model.ServiceAttributes{
				Name: s.Name, Namespace: s.Namespace, ServiceRegistry: provider.Kubernetes,
				ExportTo: sets.New(visibility.Public),
			},
		}
		for _, p := range s.Ports {
			svc.Ports = append(svc.Ports, &model.Port{Name: fmt.Sprintf("%s-%d", strings.ToLower(p.Protocol), p.Number), Port: p.Number, Protocol: protocol.Parse(p.Protocol)})
		}
		services = append(services, svc)
		index.services = append(index.services, model.ServiceInfo{Service: &workloadapi.Service{
			Name: s.Name, Namespace: s.Namespace, Hostname: string(svc.Hostname),
		}})
	}
	for _, a := range o.Waypoint.Addresses {
		ip, err := netip.ParseAddr(a)
		if err != nil {
			return nil, err
		}
		index.workloads = append(index.workloads, model.WorkloadInfo{Workload: &workloadapi.Workload{Addresses: [][]byte{ip.AsSlice()}}})
	}

	f := &failer{}
	defer f.done()
	cg := core.NewConfigGenTest(f, core.TestOptions{
		Configs: cfgs, Services: services, MeshConfig: m,
	})
	cg.Env().AmbientIndexes = index
	labels := map[string]string{
		"gateway.networking.k8s.io/gateway-name": o.Waypoint.Name,
		"gateway.istio.io/managed":               "istio.io-mesh-controller",
	}
	proxy := cg.SetupProxy(&model.Proxy{
		ID: o.Waypoint.Name + "." + o.Namespace, Type: model.Waypoint, ConfigNamespace: o.Namespace, IPAddresses: []string{"127.0.0.1"},
		Labels: labels,
		// Before 1.29.2 a waypoint is told to keep the caller's identity as "envoy.string", which plain Envoy knows; later ones as
		// Istio's own "istio.hashable_string" (xds/filters/filters.go: ConnectAuthorityFilter). Nothing else depends on it.
		Metadata: &model.NodeMetadata{Namespace: o.Namespace, Labels: labels, IstioVersion: "1.29.1"},
	})
	out := &Result{Validation: vres, MTLS: map[string]string{}, Selected: map[string][]string{}, Tunnel: &Tunnel{}}
	for _, l := range cg.Listeners(proxy) {
		switch l.Name {
		case core.ConnectTerminate:
			out.Tunnel.Terminate = l
		case core.MainInternalName:
			out.Tunnel.Internal = l
		}
	}
	for _, c := range cg.Clusters(proxy) {
		if c.Name == core.MainInternalName {
			out.Tunnel.Cluster = c
		}
	}
	if out.Tunnel.Terminate == nil || out.Tunnel.Internal == nil || out.Tunnel.Cluster == nil {
		return nil, fmt.Errorf("istiod made no waypoint of it")
	}
	return out, nil
}
