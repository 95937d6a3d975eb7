// Package render runs the real istiod code (validation, CRD schema + CEL, policy selection, authz/authn builders, inbound
// listener generator) over a set of YAML objects for one workload.
package render

import (
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmpb "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	meshconfig "istio.io/api/mesh/v1alpha1"
	security "istio.io/api/security/v1beta1"
	"istio.io/istio/pilot/pkg/model"
	"istio.io/istio/pilot/pkg/networking"
	"istio.io/istio/pilot/pkg/networking/core"
	"istio.io/istio/pilot/pkg/networking/plugin/authn"
	"istio.io/istio/pilot/pkg/networking/plugin/authz"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/config/host"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/protocol"
	"istio.io/istio/pkg/config/visibility"
	_ "istio.io/istio/pkg/config/xds" // registers every Envoy proto for protojson
	istiolog "istio.io/istio/pkg/log"
	"istio.io/istio/pkg/util/sets"
)

// Port is one declared port of the workload's Service.
type Port struct {
	Number   int    `json:"port"`
	Protocol string `json:"protocol"` // http | http2 | grpc | tcp
}

// Options describes the workload and the mesh.
type Options struct {
	YAML           string
	Namespace      string
	ServiceAccount string
	Labels         map[string]string
	TrustDomain    string
	Aliases        []string
	RootNamespace  string
	Ports          []Port
	MeshYAML       string // MeshConfig overrides
	CRDFile        string // CRD files, comma-separated; empty = no schema + CEL check
	KeepInvalid    bool   // keep objects that admission would reject (the real istiod drops nothing that is stored)
	Waypoint       *Waypoint
}

// Result is the whole rendering.
type Result struct {
	Validation  []ObjectResult      `json:"validation"`
	Selected    map[string][]string `json:"selected"`
	MTLS        map[string]string   `json:"mtls"`
	JWT         []json.RawMessage   `json:"jwtFilters"`
	HTTP        []json.RawMessage   `json:"httpFilters"`
	TCP         []json.RawMessage   `json:"tcpFilters"`
	Listener    *listener.Listener  `json:"-"`
	Tunnel      *Tunnel             `json:"-"` // of a waypoint, instead of Listener
	ListenerJS  json.RawMessage     `json:"listener,omitempty"`
	MillisParse float64             `json:"millisParse"`
	MillisGen   float64             `json:"millisGen"`
	MillisBuild float64             `json:"millis"`
}

type failer struct{ cleanups []func() }

func (f *failer) Fail()                     { panic("istio: failed") }
func (f *failer) FailNow()                  { panic("istio: failed") }
func (f *failer) Fatal(a ...any)            { panic(fmt.Sprint(a...)) }
func (f *failer) Fatalf(s string, a ...any) { panic(fmt.Sprintf(s, a...)) }
func (f *failer) Log(a ...any)              {}
func (f *failer) Logf(s string, a ...any)   {}
func (f *failer) TempDir() string           { d, _ := os.MkdirTemp("", "istio-authz"); return d }
func (f *failer) Helper()                   {}
func (f *failer) Cleanup(c func())          { f.cleanups = append(f.cleanups, c) }
func (f *failer) Skip(a ...any)             {}
func (f *failer) done() {
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		f.cleanups[i]()
	}
}

func init() {
	o := istiolog.DefaultOptions()
	lvl := os.Getenv("ISTIO_LOG") // e.g. "default:none" or "authorization:debug"
	if lvl == "" {
		lvl = "default:none,all:none"
	}
	for _, kv := range strings.Split(lvl, ",") {
		if k, v, ok := strings.Cut(kv, ":"); ok {
			l := map[string]istiolog.Level{"debug": istiolog.DebugLevel, "info": istiolog.InfoLevel, "warn": istiolog.WarnLevel,
				"error": istiolog.ErrorLevel, "none": istiolog.NoneLevel}[v]
			if k == "all" {
				for s := range istiolog.Scopes() {
					o.SetDefaultOutputLevel(s, l)
				}
			} else {
				o.SetDefaultOutputLevel(k, l)
			}
		}
	}
	_ = istiolog.Configure(o)
}
func js(m proto.Message) json.RawMessage {
	b, err := protojson.Marshal(m)
	if err != nil {
		b, _ = json.Marshal(map[string]string{"error": err.Error()})
	}
	return b
}

// Run renders.
func Run(o Options) (res *Result, err error) {
	t0 := time.Now()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("istio: %v", p)
		}
	}()
	if o.RootNamespace == "" {
		o.RootNamespace = constants.IstioSystemNamespace
	}
	cfgs, vres, m, err := prepare(o)
	if err != nil {
		return nil, err
	}
	t1 := time.Now()
	if o.Waypoint != nil {
		return runWaypoint(o, cfgs, vres, m)
	}

	const ip = "127.0.0.1"
	svc := &model.Service{
		Hostname:       host.Name("app." + o.Namespace + ".svc.cluster.local"),
		DefaultAddress: "127.0.0.1",
		Resolution:     model.ClientSideLB,
		CreationTime:   time.Unix(1700000000, 0),
		Attributes: model.ServiceAttributes{
			Name: "app", Namespace: o.Namespace, ServiceRegistry: "Kubernetes",
			ExportTo:       sets.New(visibility.Public),
			LabelSelectors: o.Labels,
		},
	}
	var insts []*model.ServiceInstance
	for _, p := range o.Ports {
		pr := protocol.Parse(p.Protocol)
		mp := &model.Port{Name: fmt.Sprintf("%s-%d", strings.ToLower(p.Protocol), p.Number), Port: p.Number, Protocol: pr}
		svc.Ports = append(svc.Ports, mp)
		insts = append(insts, &model.ServiceInstance{
			Service: svc, ServicePort: mp,
			Endpoint: &model.IstioEndpoint{
				Addresses: []string{ip}, EndpointPort: uint32(p.Number), ServicePortName: mp.Name,
				Labels: o.Labels, Namespace: o.Namespace, ServiceAccount: o.ServiceAccount,
			},
		})
	}

	f := &failer{}
	defer f.done()
	ptrs := cfgs
	cg := core.NewConfigGenTest(f, core.TestOptions{
		Configs: ptrs, Services: []*model.Service{svc}, Instances: insts, MeshConfig: m,
	})
	proxy := cg.SetupProxy(&model.Proxy{
		ID: "app." + o.Namespace, Type: model.SidecarProxy, ConfigNamespace: o.Namespace, IPAddresses: []string{ip},
		Labels: o.Labels,
		Metadata: &model.NodeMetadata{
			Namespace: o.Namespace, Labels: o.Labels, ServiceAccount: o.ServiceAccount, IstioVersion: "1.31.0",
		},
		VerifiedIdentity: nil,
	})
	push := cg.PushContext()
	t2 := time.Now()

	out := &Result{Validation: vres, MTLS: map[string]string{}, Selected: map[string][]string{}}
	sel := push.AuthzPolicies.ListAuthorizationPolicies(model.PolicyMatcherForProxy(proxy).WithRootNamespace(push.AuthzPolicies.RootNamespace))
	for k, ps := range map[string][]model.AuthorizationPolicy{"CUSTOM": sel.Custom, "AUDIT": sel.Audit, "DENY": sel.Deny, "ALLOW": sel.Allow} {
		for _, p := range ps {
			out.Selected[k] = append(out.Selected[k], p.Namespace+"/"+p.Name)
		}
		sort.Strings(out.Selected[k])
	}
	an := authn.NewBuilder(push, proxy)
	for _, p := range o.Ports {
		out.MTLS[fmt.Sprint(p.Number)] = an.ForPort(uint32(p.Number)).Mode.String()
	}
	out.MTLS["passthrough"] = an.ForPassthrough()[0].Mode.String()
	for _, x := range an.BuildHTTP(networking.ListenerClassSidecarInbound) {
		out.JWT = append(out.JWT, js(x))
	}
	cu := authz.NewBuilder(authz.Custom, push, proxy, false)
	lo := authz.NewBuilder(authz.Local, push, proxy, false)
	var hf []*hcmpb.HttpFilter
	hf = append(append(hf, cu.BuildHTTP(networking.ListenerClassSidecarInbound)...), lo.BuildHTTP(networking.ListenerClassSidecarInbound)...)
	for _, x := range hf {
		out.HTTP = append(out.HTTP, js(x))
	}
	for _, x := range append(append([]*listener.Filter{}, cu.BuildTCP()...), lo.BuildTCP()...) {
		out.TCP = append(out.TCP, js(x))
	}
	for _, l := range cg.Listeners(proxy) {
		if l.Name == model.VirtualInboundListenerName {
			out.Listener = l
		}
	}
	out.MillisParse = float64(t1.Sub(t0).Microseconds()) / 1000
	out.MillisGen = float64(time.Since(t2).Microseconds()) / 1000
	out.MillisBuild = float64(time.Since(t0).Microseconds()) / 1000
	return out, nil
}

// ListenerJSON is the full inbound listener as protojson.
func (r *Result) ListenerJSON() json.RawMessage {
	if r.Listener == nil {
		return nil
	}
	return js(r.Listener)
}

// prepare reads the objects and the mesh's configuration.
func prepare(o Options) ([]config.Config, []ObjectResult, *meshconfig.MeshConfig, error) {
	cfgs, vres, err := Parse(o)
	if err != nil {
		return nil, nil, nil, err
	}
	for _, c := range cfgs {
		if ra, ok := c.Spec.(*security.RequestAuthentication); ok {
			for _, r := range ra.JwtRules {
				if r.Jwks == "" {
					return nil, nil, nil, fmt.Errorf("RequestAuthentication %s/%s: issuer %q needs inline jwks (nothing is fetched here)", c.Namespace, c.Name, r.Issuer)
				}
			}
		}
	}
	m := mesh.DefaultMeshConfig()
	if o.MeshYAML != "" {
		m, err = mesh.ApplyMeshConfig(o.MeshYAML, m)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("meshconfig: %w", err)
		}
	}
	m = proto.Clone(m).(*meshconfig.MeshConfig)
	m.RootNamespace = o.RootNamespace
	if o.TrustDomain != "" {
		m.TrustDomain = o.TrustDomain
	}
	if len(o.Aliases) > 0 {
		m.TrustDomainAliases = o.Aliases
	}
	return cfgs, vres, m, nil
}
