package main

import (
	"strings"

	"signet.test/rig/istio/internal/decide"
	"signet.test/rig/istio/internal/render"
)

// workload is the pod whose sidecar is asked, and the mesh around it.
type workload struct {
	Namespace      string            `json:"namespace"`
	ServiceAccount string            `json:"serviceAccount"`
	Labels         map[string]string `json:"labels"`
	TrustDomain    string            `json:"trustDomain"`
	Aliases        []string          `json:"trustDomainAliases"`
	RootNamespace  string            `json:"rootNamespace"`
	Ports          []render.Port     `json:"ports"`
	BindPorts      []int             `json:"bindPorts"` // further ports, not declared by any Service (passthrough chains)
	MeshConfig     string            `json:"meshConfig"`
	PodIP          string            `json:"podIp"`
	KeepInvalid    bool              `json:"keepInvalid"`
	Waypoint       *render.Waypoint  `json:"waypoint"`
}

func (w workload) options(y, crds string) render.Options {
	o := render.Options{YAML: y, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount, Labels: w.Labels, TrustDomain: w.TrustDomain,
		Aliases: w.Aliases, RootNamespace: w.RootNamespace, Ports: w.Ports, MeshYAML: w.MeshConfig, CRDFile: crds, KeepInvalid: w.KeepInvalid, Waypoint: w.Waypoint}
	if o.Namespace == "" {
		o.Namespace = "default"
	}
	if o.ServiceAccount == "" {
		o.ServiceAccount = "app"
	}
	if o.Labels == nil {
		o.Labels = map[string]string{"app": "app"}
	}
	if o.TrustDomain == "" {
		o.TrustDomain = "cluster.local"
	}
	if len(o.Ports) == 0 {
		o.Ports = []render.Port{{Number: 8080, Protocol: "HTTP"}, {Number: 9000, Protocol: "TCP"}}
	}
	o.YAML = strings.ReplaceAll(o.YAML, "__TEST_JWKS__", decide.JWKS())
	return o
}

// bind is the ports to listen on, with their protocols.
func (w workload) bind(o render.Options) map[int]string {
	m := map[int]string{}
	for _, p := range o.Ports {
		m[p.Number] = strings.ToLower(p.Protocol)
	}
	for _, p := range w.BindPorts {
		m[p] = "auto"
	}
	return m
}
